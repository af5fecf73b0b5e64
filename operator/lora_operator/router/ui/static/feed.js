// Keeps a model in step with the router: adapters from the stream of changes, pods and LoraAdapters from /v1/fleet.

const STREAM = "../v1/watch";
const FLEET = "../v1/fleet";
const IDLE_MS = 2000; // pods and loads under way are no part of the stream
const BUSY_MS = 400; // while something is under way
const SOON_MS = 120; // after a change
const SILENT_MS = 30000; // the stream has a heartbeat every ten seconds
const RETRY_MS = 1000;
const RELOAD_MS = 60000; // least time between two reloads

export class Feed {
  // `changed(what)` is called when the model has news or the connection is another; never more than that.
  constructor(model, changed) {
    this.model = model;
    this.changed = changed;
    this.lostAt = null; // when the connection was lost
    this.streaming = false;
    this.answering = false;
    this.age = null; // {seconds, at}: how old the table was, and when we heard of it
    this.apiServer = "Unknown";
    this.trouble = "";
    this.pages = null;
    this.last = "";
    this.heardAt = 0;
    this.asking = false;
    this.askAt = Infinity; // when the next question is due
  }

  get state() {
    if (this.streaming && this.answering) return this.apiServer === "Away" ? "away" : "live";
    return this.lostAt === null ? "connecting" : "lost";
  }

  // How old what is shown is, in seconds; null before anything is.
  ageSeconds(now) {
    return this.age === null ? null : this.age.seconds + (now - this.age.at) / 1000;
  }

  start() {
    this.#open();
    this.#ask(0);
    setInterval(() => this.#watchdog(), 5000);
    document.addEventListener("visibilitychange", () => document.hidden || this.#ask(0));
    window.addEventListener("online", () => this.#ask(0));
    window.addEventListener("offline", () => this.#lost("the browser is offline"));
  }

  #open() {
    clearTimeout(this.reopening);
    this.source?.close();
    const source = new EventSource(this.last ? `${STREAM}?lastEventId=${encodeURIComponent(this.last)}` : STREAM);
    this.source = source;
    this.heardAt = performance.now();
    const on = (name, take) =>
      source.addEventListener(name, (event) => {
        if (source !== this.source) return;
        this.heardAt = performance.now();
        if (event.lastEventId) this.last = event.lastEventId;
        take(JSON.parse(event.data));
      });
    on("snapshot", (page) => this.#page(page));
    on("change", (change) => {
      this.model.put(change);
      this.changed("model");
      this.#ask(SOON_MS);
    });
    on("heartbeat", (beat) => this.#aged(beat.ageSeconds));
    source.onopen = () => {
      this.streaming = true;
      this.#found();
    };
    source.onerror = () => {
      if (source !== this.source) return;
      this.streaming = false;
      this.#lost("the stream of changes has ended");
      // a browser gives up for good after an answer such as 503
      if (source.readyState === EventSource.CLOSED) this.#reopen();
    };
  }

  #reopen() {
    clearTimeout(this.reopening);
    this.reopening = setTimeout(() => this.#open(), RETRY_MS * (1 + Math.random()));
  }

  #page(page) {
    if (page.first) this.pages = [];
    this.pages?.push(...page.adapters);
    if (page.more) return;
    this.model.replace(this.pages ?? []);
    this.pages = null;
    this.changed("model");
  }

  #watchdog() {
    if (this.streaming && performance.now() - this.heardAt > SILENT_MS) {
      this.streaming = false;
      this.#lost("the stream of changes is silent");
      this.#open();
    }
  }

  // Ask for the fleet in so many milliseconds, or earlier if that is due already; one question at a time.
  #ask(delay) {
    const at = performance.now() + delay;
    this.askAt = Math.min(this.askAt, at);
    if (this.asking || this.askAt < at) return;
    clearTimeout(this.asksLater);
    this.asksLater = setTimeout(() => this.#fetch(), delay);
  }

  async #fetch() {
    this.asking = true;
    this.askAt = Infinity;
    try {
      const since = this.model.version ? `?since=${encodeURIComponent(this.model.version)}` : "";
      const answer = await fetch(FLEET + since, { signal: AbortSignal.timeout(10000), cache: "no-store" });
      if (!answer.ok) throw new Error((await answer.json()).detail ?? `status ${answer.status}`);
      const fleet = await answer.json();
      this.#follow(answer.headers.get("X-Web-View"));
      this.apiServer = fleet.apiServer;
      this.#aged(fleet.ageSeconds);
      // a browser lets some seconds pass before it opens a stream again
      if (!this.answering && !this.streaming && this.source.readyState !== EventSource.OPEN && this.lostAt) this.#open();
      this.answering = true;
      this.#found();
      if (this.model.take(fleet)) this.changed("model");
    } catch (error) {
      this.answering = false;
      this.#lost(error instanceof TypeError || error.name === "TimeoutError" ? "the router does not answer" : error.message);
    }
    this.asking = false;
    const wished = Math.max(this.askAt - performance.now(), 0); // while we waited
    this.askAt = Infinity;
    if (wished < Infinity) this.#ask(wished);
    else if (!document.hidden) this.#ask(this.model.busy && this.answering ? BUSY_MS : IDLE_MS);
  }

  // A page that stays open for weeks has to take what a newer router has for it; not again and again while old and
  // new routers answer in turn.
  #follow(tag) {
    this.tag ??= tag;
    if (tag === this.tag || performance.now() < RELOAD_MS) return;
    location.reload();
  }

  #aged(ageSeconds) {
    if (ageSeconds !== null) this.age = { seconds: ageSeconds, at: performance.now() };
    this.changed("link");
  }

  #lost(why) {
    this.lostAt ??= new Date();
    this.trouble = why;
    this.changed("link");
  }

  #found() {
    if (this.streaming && this.answering) {
      this.lostAt = null;
      this.trouble = "";
    }
    this.changed("link");
  }
}
