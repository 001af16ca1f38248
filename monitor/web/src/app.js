// The frame around the views: addresses, heading, links, theme.
import { html, render, useEffect, useRef, useState } from "./preact.js";
import { post } from "./api.js";
import { start, store, useStore, watch } from "./store.js";
import { Notice, Shape } from "./parts.js";
import { Overview } from "./overview.js";
import { Machine } from "./machine.js";
import { EventPage } from "./event.js";
import { Node } from "./node.js";
import { Learn } from "./learn.js";
import { Login } from "./login.js";
import { isUnlearned } from "./words.js";

const ROOT = new URL(document.baseURI).pathname;
const isKiosk = () => new URLSearchParams(location.search).has("kiosk");

/** The address below the page's root: its view and what it shows. */
function route() {
  const [first, machine, third, event] = location.pathname.slice(ROOT.length).split("/").filter(Boolean).map(decodeURIComponent);
  if (first === "node") return { view: "node" };
  if (first === "m" && third === "e" && event) return { view: "event", machine, event };
  if (first === "m" && third === "learn") return { view: "learn", machine };
  if (first === "m" && machine) return { view: "machine", machine };
  if (first === "events" || first === "nodes") return { view: first };
  return { view: "overview" };
}

const STATUS = {
  connecting: ["unknown", "connecting"],
  live: ["normal", "live"],
  polling: ["warning", "every 5 s"],
  lost: ["alarm", "no connection"],
  stale: ["alarm", "out of date"],
  paused: ["unknown", "paused"],
  closed: ["unknown", "signed out"],
};

const LINKS = [
  ["./", "Machines", "overview"],
  ["node", "Node", "node"],
];
const systemTheme = matchMedia("(prefers-color-scheme: dark)");
function setTheme(theme) {
  if (theme) localStorage.setItem("theme", theme);
  document.documentElement.dataset.theme = localStorage.getItem("theme") || (systemTheme.matches ? "dark" : "light");
  dispatchEvent(new Event("themechange"));
}

function Bar({ view }) {
  const { node, connection, session, listener, problem, fleet } = store;
  const [kind, word] = STATUS[problem && connection === "live" ? "stale" : connection];
  const other = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  const flip = () => setTheme(other);
  const logout = async () => {
    await post("api/logout").catch(() => {});
    location.reload();
  };
  const lamp = (good, name, bad) =>
    html`<span class="lamp is-${good ? "normal" : "warning"}">
      <${Shape} kind=${good ? "normal" : "warning"} />${good ? name : bad}</span>`;
  return html`<header class="bar">
    <a class="name" href="./">Stethos<span> · ${fleet ? "fleet" : node?.node || session?.node || "node"}</span></a>
    <nav aria-label="Views">${(fleet?.LINKS || LINKS).map(
      ([href, word, name]) => html`<a key=${name} href=${href} aria-current=${view === name ? "page" : null}>${word}</a>`,
    )}</nav>
    <span class="lamps">
      ${fleet && html`<${fleet.Lamps} lamp=${lamp} />`}
      ${node?.mqtt && lamp(node.mqtt.connected, "broker", "broker away")}
      ${node?.health && lamp(node.health.clock_synced, "clock", "clock not set")}
      ${listener && html`<span class="lamp is-unknown" role="status">
        <${Shape} kind="idle" />someone listens to ${listener.machine}</span>`}
      <span class="lamp is-${kind}" role="status"><${Shape} kind=${kind} />${word}</span>
    </span>
    <span class="tools">
      <button onClick=${flip}
        aria-label=${other === "dark" ? "Dark colours" : "Light colours"}>${other === "dark" ? "☾" : "☀"}</button>
      ${session?.needs_password && session.role && html`<button onClick=${logout}>Sign out</button>`}
    </span>
  </header>`;
}

const VIEWS = { overview: Overview, machine: Machine, event: EventPage, node: Node, learn: Learn };
const TITLES = { overview: "Machines", node: "Node", learn: "First steps" };

function App() {
  const { session, problem, machines, connection } = useStore();
  const [address, setPlace] = useState(route);
  const [only, another] = machines.values();
  const isFirst = address.view === "overview" && only && !another && isUnlearned(only);
  const place = isFirst ? { view: "learn", machine: only.id } : address;
  const [, redraw] = useState(0);
  const main = useRef();
  useEffect(() => {
    const moved = () => {
      setPlace({ ...route(), search: store.fleet ? location.search : "" });
      main.current?.focus({ preventScroll: true });
      scrollTo(0, 0);
    };
    const clicked = (click) => {
      const link = click.target.closest?.("a[href]");
      if (
        !link ||
        link.hasAttribute("download") ||
        link.target ||
        click.button ||
        click.ctrlKey ||
        click.metaKey ||
        click.shiftKey
      )
        return;
      if (
        link.origin !== location.origin ||
        !link.pathname.startsWith(ROOT) ||
        link.pathname.startsWith(`${ROOT}api/`) ||
        link.hash
      )
        return;
      click.preventDefault();
      history.pushState(null, "", link.pathname + (isKiosk() ? "?kiosk" : link.search));
      moved();
    };
    const themed = () => redraw((n) => n + 1);
    document.addEventListener("click", clicked);
    addEventListener("popstate", moved);
    addEventListener("themechange", themed);
    return () => {
      document.removeEventListener("click", clicked);
      removeEventListener("popstate", moved);
      removeEventListener("themechange", themed);
    };
  }, []);
  const machine = place.machine && machines.get(place.machine);
  const watched = machine && (place.view === "machine" || place.view === "learn") ? place.machine : null;
  useEffect(() => watch(watched), [watched]);
  document.title = `${machine ? machine.name : TITLES[place.view] || "Stethos"} · Stethos`;
  document.body.classList.toggle("kiosk", isKiosk());
  if (!session) return problem && html`<main class="message"><p>${problem}</p></main>`;
  if (session.role === null) return html`<${Login} />`;
  const views = store.fleet?.VIEWS || VIEWS,
    View = views[place.view] || views.overview,
    isStale = problem || connection === "lost";
  return html`<a class="skip" href="#main">Skip to the content</a>
    <${Bar} view=${place.view} />
    ${isStale && html`<p class="banner" role="alert">▲ <span>${problem || `${store.fleet ? "The overview" : "The node"} does not answer`}.
      What you see is out of date; it is tried again every few seconds.</span></p>`}
    <main id="main" class=${isStale ? "stale" : ""} tabindex="-1" ref=${main}>
      ${
        place.machine && !machine
          ? html`<section class="message"><h1>No machine ${place.machine}</h1>
            <p>It is not in this node's configuration. <a href="./">Show all machines</a></p></section>`
          : html`<${View} key=${`${place.view}/${place.machine}/${place.event}/${place.search || ""}`} machine=${machine} event=${place.event} />`
      }
    </main>
    <${Notice} />`;
}

setTheme();
systemTheme.addEventListener("change", () => setTheme());
const page = document.getElementById("page");
page.replaceChildren();
render(html`<${App} />`, page);
start();
