// Workers as frames: a page that is opened as a file may start none, and the search is one.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = `<script>
        window.postMessage = (data) => parent.postMessage(data, "*");
        window.importScripts = (...urls) => urls.reduce((before, url) => before.then(() =>
          new Promise((loaded, failed) => {
            const script = Object.assign(document.createElement("script"), { src: url });
            script.onload = loaded;
            script.onerror = failed;
            document.head.append(script);
          })), Promise.resolve());
      </script><script src="${new URL(url, location.href)}"></script>`;
      this.frame = frame;
      this.ready = new Promise((loaded) => frame.addEventListener("load", loaded, { once: true }));
      addEventListener("message", ({ source, data }) => {
        if (source === frame.contentWindow) this.dispatchEvent(new MessageEvent("message", { data }));
      });
      document.body.append(frame);
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
