"""`lora login`."""

from __future__ import annotations

import argparse
import getpass
import os
import sys

from lora_operator.plugin.problems import BAD_COMMAND_LINE, PluginError
from lora_operator.plugin.screen import clean
from lora_operator.terminal.access import SERVER, Access, checked_server, keep, kept_in, read_token
from lora_operator.terminal.client import Client


async def run(arguments: argparse.Namespace) -> int:
    missing = "say which library: lora login --server https://library.example.com"
    server = checked_server(arguments.server or os.environ.get(SERVER, ""), missing)
    if arguments.token_file:
        token = read_token(arguments.token_file)
    elif sys.stdin.isatty():
        token = getpass.getpass("Token: ").strip()
    else:
        raise PluginError("there is no terminal to ask for the token: give --token-file, - for the standard input",
                          BAD_COMMAND_LINE)  # fmt: skip
    wanted = Access(server, token)
    async with Client(wanted) as client:
        me = await client.call("GET", "/me")
    file = kept_in()
    keep(wanted, file)
    print(clean(f"you are {me['subject']} at {server}; kept in {file}"))
    if wanted.in_the_open:
        sys.stderr.write("warning: this is plain HTTP: whoever is on the way can read your token\n")
    return 0
