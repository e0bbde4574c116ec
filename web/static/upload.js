// Files from this machine into a lease: dropped or chosen, sent as one tar each time, which is made here as it goes.
"use strict";
(() => {
  const drop = document.getElementById("drop");
  const list = document.getElementById("sending");
  const BLOCK = 512;

  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
  for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, () => drop.classList.add("over"));
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", async (event) => {
    // both are asked for at once: after the first pause there is nothing left to ask
    const found = [...event.dataTransfer.items].map((one) => ({ entry: one.webkitGetAsEntry(), file: one.getAsFile() }));
    const files = found.map(({ entry, file }) => (entry ? walk(entry, "") : file ? [{ name: file.name, file }] : []));
    send((await Promise.all(files)).flat());
  });
  for (const id of ["choose-files", "choose-folder"]) {
    const input = document.getElementById(id);
    input.addEventListener("change", () => {
      send([...input.files].map((file) => ({ name: file.webkitRelativePath || file.name, file })));
      input.value = "";
    });
  }

  async function walk(entry, before) {
    const name = before + entry.name;
    if (entry.isFile) return [{ name, file: await new Promise((give, fail) => entry.file(give, fail)) }];
    const reader = entry.createReader();
    const found = [];
    for (;;) {
      const some = await new Promise((give, fail) => reader.readEntries(give, fail)); // a hundred at a time
      if (!some.length) break;
      found.push(...some);
    }
    return [{ name }, ...(await Promise.all(found.map((one) => walk(one, `${name}/`)))).flat()];
  }

  function send(files) {
    if (!files.length) return;
    const size = files.reduce((sum, { file }) => sum + (file ? file.size : 0), 0);
    const line = document.createElement("li");
    const words = document.createElement("span");
    const state = document.createElement("span");
    const bar = document.createElement("progress");
    words.textContent = files.length === 1 ? files[0].name : `${files.filter((one) => one.file).length} files`;
    state.className = "quiet";
    bar.max = 1;
    bar.value = 0;
    bar.setAttribute("aria-label", `Sending ${words.textContent}`);
    line.append(words, state, bar);
    list.append(line);
    list.hidden = false;

    const request = new XMLHttpRequest();
    request.open("PUT", drop.dataset.to);
    request.setRequestHeader("Content-Type", "application/x-tar");
    request.upload.onprogress = ({ loaded, total }) => {
      bar.value = loaded / total;
      state.textContent = `${Math.round((100 * loaded) / total)} % of ${said(size)}`;
    };
    request.onload = () => {
      if (request.status === 200) {
        state.textContent = `${said(size)} sent`;
        bar.remove();
        document.body.dispatchEvent(new Event("sent"));
        setTimeout(() => { line.remove(); list.hidden = !list.children.length; }, 5000);
      } else {
        fail(problem(request.responseText));
      }
    };
    request.onerror = () => fail("The connection broke, or the platform refused it. Nothing is lost: send it again.");
    request.send(new Blob(tar(files)));

    function fail(words) {
      bar.remove();
      state.textContent = "";
      const fault = document.createElement("p");
      fault.className = "fault";
      fault.setAttribute("role", "alert");
      fault.textContent = words;
      line.append(fault);
      document.body.dispatchEvent(new Event("sent")); // some of it may be there
    }
  }

  function problem(text) {
    try {
      const { detail, hint } = JSON.parse(text);
      return [detail, hint].filter(Boolean).join(" ");
    } catch {
      return "It was refused.";
    }
  }

  function* tar(files) {
    for (const { name, file } of files) {
      const size = file ? file.size : 0;
      const seconds = Math.floor((file ? file.lastModified : Date.now()) / 1000);
      const more = record("path", name) + (size >= 8 ** 11 ? record("size", size) : "");
      const long = new TextEncoder().encode(more);
      yield header("PaxHeader", long.length, "x", seconds, 0o644);
      yield* padded(new Blob([long]));
      yield header("file", size < 8 ** 11 ? size : 0, file ? "0" : "5", seconds, file ? 0o644 : 0o755);
      if (file) yield* padded(file);
    }
    yield new Uint8Array(2 * BLOCK);
  }

  function* padded(blob) {
    yield blob;
    if (blob.size % BLOCK) yield new Uint8Array(BLOCK - (blob.size % BLOCK));
  }

  // "LENGTH key=value\n", where the length counts itself
  function record(key, value) {
    const rest = new TextEncoder().encode(` ${key}=${value}\n`).length;
    let length = rest + String(rest).length;
    if (rest + String(length).length > length) length += 1;
    return `${length} ${key}=${value}\n`;
  }

  function header(name, size, kind, seconds, mode) {
    const block = new Uint8Array(BLOCK);
    const put = (at, text) => block.set(new TextEncoder().encode(text), at);
    const octal = (number, digits) => number.toString(8).padStart(digits, "0");
    put(0, name);
    put(100, `${octal(mode, 7)}\0`);
    put(108, `${octal(1000, 7)}\0`);
    put(116, `${octal(1000, 7)}\0`);
    put(124, `${octal(size, 11)}\0`);
    put(136, `${octal(Math.max(0, seconds), 11)}\0`);
    put(148, "        ");
    put(156, kind);
    put(257, "ustar\0" + "00");
    put(148, `${octal(block.reduce((sum, byte) => sum + byte, 0), 6)}\0 `);
    return block;
  }

  function said(size) {
    const units = ["B", "K", "M", "G", "T"];
    let at = 0;
    for (; size >= 1024 && at < units.length - 1; at++) size /= 1024;
    return `${size < 10 && at ? size.toFixed(1) : Math.round(size)}${units[at]}`;
  }
})();
