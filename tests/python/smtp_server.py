"""A mail server for the tests: keeps what it accepts, and misbehaves when it is asked to.

    smtp_server.py PORT FOLDER [login] [tls | starttls]

It says "listening PORT" and serves until it is killed. Every mail it accepts becomes a file in FOLDER. With `login` it wants
the user "kontor" and the password "p@ss/word". With `tls` it is encrypted from the first byte, with `starttls` it takes no
mail before encryption was asked for; both by FOLDER/certificate.pem and FOLDER/key.pem. The recipient's name says what is to
go wrong:

    refused@    550, for ever
    jammed@     451, for ever
    busy@       451 the first time
    slow@       no answer the first time
    held@       kept, but the answer waits for the file
    fatal@      the server dies in the middle of the mail, the first time

and none of it does once there is a file "lenient" in FOLDER.
"""

import asyncio
import itertools
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

PORT, FOLDER, LOGIN = int(sys.argv[1]), sys.argv[2], "login" in sys.argv[3:]
TLS, STARTTLS = "tls" in sys.argv[3:], "starttls" in sys.argv[3:]
NUMBERS = itertools.count()


def lenient():
    return os.path.exists(os.path.join(FOLDER, "lenient"))


def first_time(address):
    """Whether nobody asked about this address yet. Remembered in the folder: the server may die in between."""
    try:
        os.close(os.open(os.path.join(FOLDER, f"seen-{address}"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def is_to(address, what):
    return address.split("@")[0] == what


async def until_lenient():
    while not lenient():
        await asyncio.sleep(0.01)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if not lenient():
            if is_to(address, "refused"):
                return f"550 5.1.1 <{address}>: nobody of that name lives here"
            if is_to(address, "jammed") or (is_to(address, "busy") and first_time(address)):
                return f"451 4.3.2 <{address}>: not now"
            if is_to(address, "slow") and first_time(address):
                await asyncio.Event().wait()
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        name = f"{os.getpid()}-{next(NUMBERS):06}"
        half = os.path.join(FOLDER, name)
        with open(half, "wb") as file:
            file.write(envelope.content)
        os.rename(half, half + ".eml")
        if any(is_to(address, "held") for address in envelope.rcpt_tos):
            await until_lenient()
        return "250 2.0.0 kept"


class Server(SMTP):
    async def smtp_DATA(self, arg):
        for address in self.envelope.rcpt_tos:
            if is_to(address, "fatal") and not lenient() and first_time(address):
                await self.push("354 go on")
                await self._reader.readline()
                os._exit(1)
        await super().smtp_DATA(arg)


def log_in(server, session, envelope, mechanism, data):
    # Not handled: the answer is left to aiosmtpd.
    return AuthResult(success=(data.login, data.password) == (b"kontor", b"p@ss/word"), handled=False)


def encryption():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(FOLDER, "certificate.pem"), os.path.join(FOLDER, "key.pem"))
    return context


def connection():
    login = {"authenticator": log_in, "auth_required": True, "auth_require_tls": False} if LOGIN else {}
    secret = {"tls_context": encryption(), "require_starttls": True} if STARTTLS else {}
    return Server(Handler(), hostname="mail.example", enable_SMTPUTF8=True, **login, **secret)


async def serve():
    server = await asyncio.get_running_loop().create_server(
        connection, "127.0.0.1", PORT, ssl=encryption() if TLS else None
    )
    print("listening", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(serve())
