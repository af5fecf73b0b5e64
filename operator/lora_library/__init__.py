"""The user library: people upload adapters of their own, and call them a moment later.

A web service with a database beside a store of files. It tells the operator of adapters by LoraAdapters that it writes;
everything else (caches, loading on demand, eviction, roll-outs) is the operator's.
"""
