// The token is kept by this tab alone, and travels in a header: it is never part of an address.
const KEY = "satisfice-token";
const form = document.querySelector("form");
const note = document.querySelector("output");
const forget = document.querySelector("#forget");

async function show(token) {
  let answer;
  try {
    const headers = { Authorization: `Bearer ${token}`, Accept: "text/html" };
    answer = await fetch("/", { headers, cache: "no-store" });
  } catch (error) {
    note.textContent = `The request was not answered: ${error.message}`;
    return;
  }
  if (!answer.ok) {
    sessionStorage.removeItem(KEY);
    note.textContent = answer.status === 401 ? "The server does not know this token." : `The server answered ${answer.status}.`;
    return;
  }
  sessionStorage.setItem(KEY, token);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.querySelector("main").replaceWith(page.querySelector("main"));
  note.textContent = "";
  form.hidden = true;
  forget.hidden = false;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  show(form.elements.token.value.trim());
});
forget.addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  location.reload();
});
const kept = sessionStorage.getItem(KEY);
if (kept) show(kept);
