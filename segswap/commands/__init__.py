"""The subcommands of ``segswap``, a module each: ``add_arguments(parser)`` and ``execute(args)``.

``segswap.cli`` imports the one that is called, so that none waits for the libraries of the others.
"""
