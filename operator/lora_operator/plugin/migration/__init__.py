"""Resources of other projects as LoraAdapters: one module for each project, all pure.

Each gives what it could translate, and says in notes what has no equal here.
"""
