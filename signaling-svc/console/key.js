// The API key: asked for when the server wants one, kept for this tab only.

const KEY = "voxray-api-key";
let waiting = null;

/** The key of this tab, or nothing. */
export function apiKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

/** Asks for a key; `refused` is the one that was not taken. Everything that waits for it gets the same one. */
export function askForKey(refused) {
  // Another request was refused at the same time, and the person has answered since.
  if (apiKey() && apiKey() !== refused) return Promise.resolve(apiKey());
  waiting ??= ask(refused).finally(() => {
    waiting = null;
  });
  return waiting;
}

function ask(refused) {
  const dialog = document.getElementById("key");
  const field = document.getElementById("key-field");
  document.getElementById("key-problem").textContent = refused ? "The server does not take this key." : "";
  field.value = "";
  return new Promise((resolve) => {
    const form = dialog.querySelector("form");
    const show = () => {
      if (!dialog.open) dialog.showModal();
      field.focus();
    };
    const keep = (event) => event.preventDefault();
    const submitted = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, field.value.trim());
      form.removeEventListener("submit", submitted);
      dialog.removeEventListener("cancel", keep);
      dialog.removeEventListener("close", show);
      dialog.close();
      resolve(apiKey());
    };
    form.addEventListener("submit", submitted);
    // Without a key there is nothing behind the dialog to go back to; browsers do not always ask before they close it.
    dialog.addEventListener("cancel", keep);
    dialog.addEventListener("close", show);
    show();
  });
}
