#!/usr/bin/env python3
"""Serve a page and an interface on which the voice goes on while you listen (docs/live.md).

Usage:

  python3 bin/serve.py
  python3 bin/serve.py --model exp/released other=exp/other/released --port 8001
  python3 bin/serve.py --host 0.0.0.0 --token-file token.txt --allow-host voice.example.org

Without --model the bundled model speaks.  Nothing but this machine can reach the server unless --host says so.
"""

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

import logging
from functools import partial
from importlib.util import find_spec

from valle.config import parse_flags
from valle.errors import UserError, run_program
from valle.live.options import ServeOptions

NEEDED = {"aiohttp": "aiohttp", "prometheus_client": "prometheus-client"}  # modules and the packages that they are in


def main() -> None:
    options = parse_flags(ServeOptions, usage=__doc__ or "")
    if missing := [package for module, package in NEEDED.items() if find_spec(module) is None]:
        raise UserError(f"the server needs {' and '.join(missing)}; install them with pip install 'valle[live]'")
    from valle.live.serve import serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    serve(options, say=partial(print, flush=True))


if __name__ == "__main__":
    run_program(main)
