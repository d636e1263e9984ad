// Asking the server: answers as values, errors as text that says what to do.

/** What the server refused, or why it did not answer; the message is for people. */
export class Refused extends Error {}

/** Ask an address: with fields by POST, else by GET. Returns the answer's content. */
export async function ask(address, fields) {
  let answer;
  try {
    answer = await fetch(address, fields && { method: "POST", body: form(fields) });
  } catch {
    throw new Refused("The server does not answer. Is “segswap serve” still running in its terminal? Start it again, then reload this page.");
  }
  const content = await answer.json().catch(() => ({ error: `The server answered with status ${answer.status}; its terminal may say why.` }));
  if (!answer.ok) throw new Refused(content.error);
  return content;
}

function form(fields) {
  const data = new FormData();
  for (const [key, value] of Object.entries(fields)) if (value !== undefined && value !== null) data.append(key, value);
  return data;
}

/** The fields that name a picture: its file, or its number in the folder. */
export function pictureFields(picture, field, numberField) {
  return picture.file ? { [field]: picture.file } : { [numberField]: picture.number };
}

/** Ask for a computation, and tell the status line how far it is until the answer comes. */
export async function compute(address, fields, status) {
  const ticket = crypto.randomUUID?.() ?? String(Math.random());
  const words = ({ ahead, what, seconds, done, total }) => {
    if (ahead === null) return "Sending…";
    if (ahead > 0) return `Waiting: ${ahead} other computation${ahead > 1 ? "s" : ""} first…`;
    const part = total ? `, ${Math.round((100 * done) / total)} %` : "";
    return `${what[0].toUpperCase()}${what.slice(1)}${part}… ${Math.round(seconds)} s`;
  };
  status.classList.add("busy");
  status.textContent = "Sending…";
  const timer = setInterval(async () => {
    try {
      const found = await ask(`/api/status?ticket=${ticket}`);
      if (status.classList.contains("busy")) status.textContent = words(found);
    } catch { /* the computation itself says what is wrong */ }
  }, 700);
  try {
    return await ask(address, { ...fields, ticket });
  } finally {
    clearInterval(timer);
    status.classList.remove("busy");
    status.textContent = "";
  }
}
