// What the pages say, in English and German. A page adds its own: `words({en: {"menu.title": "Menu"}, de: {…}})`.
// `{name}` in a text is replaced; a text by number is `{one: "{count} order", other: "{count} orders"}`.

const LANGUAGES = ["en", "de"];
const KEPT = "brewline-language";
const texts = { en: {}, de: {} };

export const language = chosen();
document.documentElement.lang = language;

function chosen() {
  const wanted = [localStorage.getItem(KEPT), ...navigator.languages].filter(Boolean).map((tag) => tag.slice(0, 2).toLowerCase());
  return wanted.find((tag) => LANGUAGES.includes(tag)) ?? "en";
}

/** Shows everything anew. */
export function setLanguage(tag) {
  localStorage.setItem(KEPT, tag);
  location.reload();
}

export function words(more) {
  for (const tag of LANGUAGES) Object.assign(texts[tag], more[tag]);
}

/** A key that nobody has a text for is shown as it is: it is meant to be seen. */
export function t(key, values = {}) {
  const found = texts[language][key] ?? texts.en[key] ?? key;
  const text = typeof found === "string" ? found : found[plural.select(values.count)] ?? found.other;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

const plural = new Intl.PluralRules(language);

/** `{amount: "9.00", currency: "USD"}` */
export function money({ amount, currency }) {
  return new Intl.NumberFormat(language, { style: "currency", currency }).format(amount);
}

export function number(value, options) {
  return new Intl.NumberFormat(language, options).format(value);
}

const TIME = { hour: "2-digit", minute: "2-digit" };
const DAY = { day: "numeric", month: "short" };

/** The time of day, with the day where it isn't today's; `precise` with seconds and milliseconds. */
export function time(iso, { precise = false } = {}) {
  const at = new Date(iso);
  const today = at.toDateString() === new Date().toDateString();
  const seconds = precise ? { second: "2-digit", fractionalSecondDigits: 3 } : {};
  return new Intl.DateTimeFormat(language, { ...TIME, ...seconds, ...(today ? {} : DAY) }).format(at);
}

const UNITS = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]];

/** "3 minutes ago", "in 2 hours". */
export function ago(iso, now = Date.now()) {
  const seconds = (Date.parse(iso) - now) / 1000;
  const [unit, size] = UNITS.find(([, least]) => Math.abs(seconds) >= least) ?? UNITS.at(-1);
  return new Intl.RelativeTimeFormat(language, { numeric: "auto" }).format(Math.round(seconds / size), unit);
}

/** 0.034 is "34 ms", 75 is "1 min 15 s". */
export function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${number(seconds, { maximumFractionDigits: 1 })} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${Math.round(seconds % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

words({
  en: {
    "app.board": "Board",
    "app.console": "Console",
    "app.language": "Deutsch",
    "app.skip": "Skip to the content",
    "session.sign-in": "Sign in",
    "session.sign-out": "Sign out",
    "session.as": "Signed in as {name}, {tenant}",
    "session.needed.title": "Please sign in",
    "session.needed.text": "This page shows what belongs to your shop.",
    "session.refused.title": "This page is for the staff",
    "session.refused.text": "You are signed in as {name}, who may order, but not look behind the counter.",
    "session.another": "Sign in as somebody else",
    "session.ended.title": "You are not signed in any more",
    "session.ended.text": "Sign in again, and you come back to this page.",
    "session.home": "To the menu",
    "state.loading": "Loading …",
    "state.failed": "That did not work",
    "state.offline": "The server does not answer. It may be back in a moment.",
    "state.retry": "Try again",
    "state.trace": "Trace {id}",
  },
  de: {
    "app.board": "Theke",
    "app.console": "Konsole",
    "app.language": "English",
    "app.skip": "Zum Inhalt",
    "session.sign-in": "Anmelden",
    "session.sign-out": "Abmelden",
    "session.as": "Angemeldet als {name}, {tenant}",
    "session.needed.title": "Bitte melden Sie sich an",
    "session.needed.text": "Diese Seite zeigt, was zu Ihrem Geschäft gehört.",
    "session.refused.title": "Diese Seite ist für das Personal",
    "session.refused.text": "Sie sind als {name} angemeldet und können bestellen, aber nicht hinter die Theke sehen.",
    "session.another": "Als jemand anderes anmelden",
    "session.ended.title": "Sie sind nicht mehr angemeldet",
    "session.ended.text": "Melden Sie sich noch einmal an; danach sind Sie wieder auf dieser Seite.",
    "session.home": "Zur Karte",
    "state.loading": "Wird geladen …",
    "state.failed": "Das hat nicht geklappt",
    "state.offline": "Der Server antwortet nicht. Vielleicht ist er gleich wieder da.",
    "state.retry": "Noch einmal versuchen",
    "state.trace": "Trace {id}",
  },
});
