// The run's warnings, newest first.

const KINDS = { warning: "", "block-repeated": "block repeated", "block-failed": "block failed", failed: "failed" };

/** Show warnings of {time, kind, text}, given newest last. */
export function showWarnings(warnings) {
  const list = document.getElementById("warnings");
  const key = warnings.length ? `${warnings.length} ${warnings.at(-1).time} ${warnings.at(-1).text}` : "none";
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  document.getElementById("warnings-count").textContent = warnings.length ? String(warnings.length) : "none";
  list.replaceChildren(...warnings.toReversed().map(item));
}

function item({ time, kind, text }) {
  const element = document.createElement("li");
  element.dataset.kind = kind;
  const when = document.createElement("time");
  when.dateTime = time;
  when.textContent = new Date(time).toLocaleTimeString("en-GB");
  const what = KINDS[kind] ?? kind;
  element.append(when, what ? ` ${what}: ${text}` : ` ${text}`);
  return element;
}
