"""The page that ``segswap serve`` shows: pictures compared and a folder searched in the browser, on this machine."""
