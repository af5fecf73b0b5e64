"""What the router scenarios need: a router API over a made fleet as a process of its own, clients that load it, and
clients of its stream that note when they learnt what."""
