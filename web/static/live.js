// The live parts that htmx does not do: what a lease prints, and a word when the platform is away.
"use strict";
(() => {
  const KEPT = 2000; // pieces of output; older ones go
  const away = document.getElementById("away");
  let reading = null; // stops the stream that is being read
  let rest = 0; // looks to let pass before a stream that ended is opened again

  document.addEventListener("htmx:afterRequest", (event) => {
    away.hidden = event.detail.successful === true;
    look();
  });
  document.addEventListener("visibilitychange", look); // a browser opens few connections: none for a hidden page
  window.addEventListener("pagehide", () => reading?.abort());
  look();

  function look() {
    const pre = document.querySelector("[data-follow]");
    const state = document.querySelector("[data-state]")?.dataset.state;
    const wanted = pre && !document.hidden && (state === "running" || state === "stopping");
    if (!wanted) {
      reading?.abort();
      rest = 0;
    } else if (!reading && rest-- <= 0) {
      follow(pre);
    }
  }

  async function follow(pre) {
    const own = (reading = new AbortController());
    try {
      const answer = await fetch(pre.dataset.follow, { signal: own.signal });
      pre.replaceChildren();
      if (!answer.ok) {
        add(pre, (await answer.json()).detail);
        return;
      }
      const text = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let piece = await text.read(); !piece.done; piece = await text.read()) add(pre, piece.value);
    } catch (error) {
      if (!own.signal.aborted && !(error instanceof TypeError)) throw error; // TypeError: the connection broke
    } finally {
      reading = null;
      rest = 3;
    }
  }

  function add(pre, text) {
    const atEnd = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 8;
    // colours are dropped, and a line that a program paints over stays as lines
    pre.append(text.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "").replace(/\r+\n?/g, "\n"));
    while (pre.childNodes.length > KEPT) pre.firstChild.remove();
    if (atEnd) pre.scrollTop = pre.scrollHeight;
  }
})();
