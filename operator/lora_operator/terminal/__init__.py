"""`lora`: the user library for people at a terminal. It speaks the library's HTTP API, and needs nothing else of it."""
