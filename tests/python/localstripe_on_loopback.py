"""localstripe on a free port of 127.0.0.1, which is printed. Its own program listens on every interface, and keeps its
data in one file for everybody."""

import socket

from aiohttp import web
from localstripe.resources import Store
from localstripe.server import app

Store.dump_to_disk = lambda self: None

listener = socket.create_server(("127.0.0.1", 0))
print("port", listener.getsockname()[1], flush=True)
web.run_app(app, sock=listener, print=None)
