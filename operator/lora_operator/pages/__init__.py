"""What all pages for browsers have in common: how their files are served, colours, and small modules of JavaScript.

A page is plain HTML, CSS and JavaScript modules in a folder `static` of its package, with no build step."""
