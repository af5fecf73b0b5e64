"""The read-only web view: what it shows of pods and LoraAdapters (`/v1/fleet`), and its page (`/ui/`).

`static` is the page as browsers get it: plain HTML, CSS and JavaScript modules, with no build step."""
