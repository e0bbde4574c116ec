// A lease's terminal: xterm.js on one side, a WebSocket on the other. It is taken up again after a reload by its id.
"use strict";
(() => {
  const place = document.getElementById("terminal");
  const state = document.getElementById("terminal-state");
  const ending = document.getElementById("terminal-ending");
  const again = document.getElementById("terminal-again");
  const kept = `terminal:${place.dataset.lease}`; // of this tab
  const WAITS = [300, 700, 1500, 3000, 5000]; // milliseconds before each further try
  let socket = null;
  let deaf = false; // what is shown again was answered once: the terminal must not answer it again
  let over = false;
  let tries = 0;
  let control = false; // the next letter is typed with Ctrl, on a screen without keys

  asThePolicyAllows();
  const terminal = new Terminal({
    cursorBlink: true, fontSize: 14, lineHeight: 1.2, scrollback: 5000, macOptionIsMeta: true,
    fontFamily: 'ui-monospace, "Liberation Mono", "DejaVu Sans Mono", monospace',
    theme: {
      background: "#0e1217", foreground: "#e6eaf0", cursor: "#6aa5ff", cursorAccent: "#0e1217",
      selectionBackground: "#6aa5ff55", black: "#2a323d", red: "#ff8b82", green: "#55c884", yellow: "#e3b341",
      blue: "#6aa5ff", magenta: "#c89bff", cyan: "#5fd0d6", white: "#d5dbe4", brightBlack: "#8b97a8",
      brightRed: "#ffaba4", brightGreen: "#7fe0a5", brightYellow: "#f2cd6b", brightBlue: "#96c0ff",
      brightMagenta: "#dcbcff", brightCyan: "#8be5ea", brightWhite: "#ffffff",
    },
  });
  const fit = new FitAddon.FitAddon();
  terminal.loadAddon(fit);
  terminal.open(place);
  terminal.textarea.setAttribute("aria-label", "Type here");
  fit.fit();

  terminal.onData((text) => send(new TextEncoder().encode(withControl(text))));
  terminal.onBinary((text) => send(Uint8Array.from(text, (sign) => sign.charCodeAt(0))));
  terminal.onResize(({ cols, rows }) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ resize: [cols, rows] })));
  terminal.onTitleChange((title) => { document.title = `${title || "Terminal"} · ${place.dataset.name} · Leasing`; });
  terminal.attachCustomKeyEventHandler(keys);
  new ResizeObserver(() => requestAnimationFrame(() => fit.fit())).observe(place);
  again.addEventListener("click", () => { tries = 0; start(); });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !over && socket?.readyState === WebSocket.CLOSED) start();
  });
  for (const key of document.querySelectorAll("[data-key]")) key.addEventListener("click", () => press(key));
  start();

  function start() {
    const id = sessionStorage.getItem(kept);
    over = false;
    ending.hidden = true;
    tell(tries ? "connecting again…" : "connecting…");
    const address = new URL(place.dataset.socket + (id ? `/${encodeURIComponent(id)}` : ""), location);
    address.protocol = location.protocol.replace("http", "ws");
    address.search = new URLSearchParams({ columns: terminal.cols, rows: terminal.rows });
    const own = (socket = new WebSocket(address));
    own.binaryType = "arraybuffer";
    own.onmessage = (event) => {
      if (own === socket) typeof event.data === "string" ? hear(JSON.parse(event.data)) : terminal.write(new Uint8Array(event.data));
    };
    own.onclose = () => {
      if (own !== socket || over) return;
      tell("the connection broke; trying again…");
      setTimeout(() => own === socket && !over && start(), WAITS[Math.min(tries++, WAITS.length - 1)]);
    };
  }

  function hear(said) {
    if (said.terminal) {
      deaf = true;
      terminal.reset(); // it is told again what it showed
      sessionStorage.setItem(kept, said.terminal);
    } else if (said.ready) {
      terminal.write("", () => { deaf = false; }); // in turn, after what was written before
      tries = 0;
      tell("connected");
      terminal.focus();
      if (fit.proposeDimensions()) fit.fit();
    } else if (said.error === "not_found" && sessionStorage.getItem(kept)) {
      sessionStorage.removeItem(kept);
      over = tries > 0; // it was looked at just now; on a page that comes anew another one will do
      if (over) end(said.detail, "Open another one");
      else start();
    } else if (said.error === "taken") {
      end(said.detail, "Show it here");
    } else if (said.error === "conflict") {
      tell(said.detail); // it waits or starts: that is tried again
    } else if (said.error) {
      end([said.detail, said.hint].filter(Boolean).join(" "), "Try again");
    } else {
      sessionStorage.removeItem(kept);
      const code = said.exit_code === null ? "" : said.exit_code === 0 ? "The shell has ended." : `The shell ended with exit code ${said.exit_code}.`;
      end(said.reason || code || "The shell has ended.", "Open another one");
    }
  }

  function end(words, offer) {
    over = true;
    tell("ended");
    ending.querySelector("p").textContent = words;
    again.textContent = offer;
    ending.hidden = false;
    again.focus();
  }

  function tell(words) {
    state.textContent = words;
    state.className = `state ${words === "connected" ? "running" : words === "ended" ? "ended" : ""}`;
  }

  function send(bytes) {
    if (!deaf && socket?.readyState === WebSocket.OPEN) socket.send(bytes);
  }

  // As terminals have it: Ctrl+Shift+C and V, Ctrl+C too where something is marked, for else it interrupts.
  function keys(event) {
    if (event.type !== "keydown" || !event.ctrlKey || event.altKey || event.metaKey) return true;
    const letter = event.key.toLowerCase();
    if (letter === "c" && terminal.hasSelection()) {
      event.preventDefault();
      copy();
      return false;
    }
    if (letter === "c" && event.shiftKey) event.preventDefault();
    return !(event.shiftKey && (letter === "c" || letter === "v")); // the browser itself pastes
  }

  function copy() {
    terminal.textarea.focus();
    document.execCommand("copy"); // works on plain HTTP, where navigator.clipboard is not
    terminal.clearSelection();
  }

  function press(key) {
    terminal.focus();
    if (key.dataset.key === "ctrl") control = !control;
    else if (key.dataset.key === "paste") navigator.clipboard?.readText().then((text) => terminal.paste(text));
    else terminal.input(JSON.parse(`"${key.dataset.key}"`));
    document.querySelector("[data-key=ctrl]").setAttribute("aria-pressed", control);
  }

  function withControl(text) {
    if (!control || text.length !== 1) return text;
    control = false;
    document.querySelector("[data-key=ctrl]").setAttribute("aria-pressed", false);
    return String.fromCharCode(text.toUpperCase().charCodeAt(0) & 31);
  }

  // The page's policy takes no inline style. What xterm.js writes as such goes by the ways that it leaves to scripts:
  // sheets that are put together here, and an element's `style`.
  function asThePolicyAllows() {
    const make = document.createElement.bind(document);
    document.createElement = (name, options) => {
      if (String(name).toLowerCase() !== "style") return make(name, options);
      const sheet = new CSSStyleSheet();
      document.adoptedStyleSheets.push(sheet);
      const stands = make("template"); // even an empty style element would be refused
      return Object.defineProperty(stands, "textContent", { set: (text) => sheet.replaceSync(text), get: () => "" });
    };
    const set = HTMLSpanElement.prototype.setAttribute;
    HTMLSpanElement.prototype.setAttribute = function (name, value) {
      if (name === "style") this.style.cssText = value;
      else set.call(this, name, value);
    };
  }
})();
