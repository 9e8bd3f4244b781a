// Light, dark, or as the system has it.

const KINDS = ["system", "light", "dark"];
const WORDS = { system: "Auto", light: "Light", dark: "Dark" };
const SPOKEN = { system: "as the system has them", light: "on paper", dark: "for the night" };
const KEY = "voxray-theme";

/** Makes this button go through the kinds; the choice stays with this browser. */
export function startTheme(button) {
  let kind = KINDS.includes(read()) ? read() : "system";
  const apply = () => {
    if (kind === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = kind;
    button.setAttribute("aria-label", `${WORDS[kind]}: colours ${SPOKEN[kind]}`);
    button.querySelector("span").textContent = WORDS[kind];
    dispatchEvent(new Event("themechange"));
  };
  button.addEventListener("click", () => {
    kind = KINDS[(KINDS.indexOf(kind) + 1) % KINDS.length];
    try {
      localStorage.setItem(KEY, kind);
    } catch {
      // Without storage the choice lasts as long as the page.
    }
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("themechange")));
  apply();
}

function read() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}
