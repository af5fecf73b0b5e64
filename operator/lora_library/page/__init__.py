"""The web page /library as browsers get it: plain HTML, CSS and JavaScript modules, with no build step."""
