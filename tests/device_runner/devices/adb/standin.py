"""A stand-in for a phone's adb daemon, on loopback, for what a genuine one cannot be made to do at will.

Speaks the device's side of adb's protocol to a genuine adb: connection with or without authorisation, the shell
(version 2), and files (sync, version 1). Commands are run by a shell of this machine.
"""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import subprocess
import threading
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

CNXN, AUTH, OPEN, OKAY, WRTE, CLSE = (
    int.from_bytes(name, "little") for name in (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"WRTE", b"CLSE")
)
VERSION = 0x01000001  # from this one on nobody sums bytes up
MAX_DATA = 1 << 20
TOKEN, SIGNATURE, PUBLIC_KEY = 1, 2, 3
BANNER = b"device::ro.product.name=standin;ro.product.model=Stand_in;ro.product.device=standin;features=shell_v2,cmd\0"
STDOUT, STDERR, EXIT = 1, 2, 3


class StandIn:
    """The daemon, in a thread of its own."""

    def __init__(self, shell: tuple[str, ...] = ("/bin/sh",), authorized: bool = True) -> None:
        self.shell, self.authorized = shell, authorized
        self.drop_after: int | None = None
        """Bytes of pushed files until every connection is dropped, once."""
        self.damage_pulls = 0
        """So many of the next pulled files get a byte changed on the way."""
        self.full = False
        """Pushes fail as they do on a device whose storage is full."""
        self.received = 0
        self.connections: set[Connection] = set()
        self.loop = asyncio.new_event_loop()
        self.server: asyncio.Server | None = None
        self.port = 0
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.restore()

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _do(self, action: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(action, self.loop).result(timeout=10)

    def restore(self) -> None:
        """Take connections (again)."""

        async def listen() -> None:
            self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self.server.sockets[0].getsockname()[1]

        self._do(listen())

    def drop(self, refuse: bool = True) -> None:
        """End all connections; with `refuse` also take no more."""

        async def drop() -> None:
            if self.server is not None and refuse:
                self.server.close()
                self.server = None
            self.drop_now()

        self._do(drop())

    def drop_now(self) -> None:
        for connection in list(self.connections):
            connection.abort()

    def close(self) -> None:
        self.drop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(timeout=10)
        self.loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, reader, writer)
        self.connections.add(connection)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            await connection.serve()
        self.connections.discard(connection)
        connection.abort()


class Connection:
    """One adb server."""

    def __init__(self, device: StandIn, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.device, self.reader, self.writer = device, reader, writer
        self.streams: dict[int, Stream] = {}
        self.last_id = 0

    def send(self, command: int, arg0: int, arg1: int, data: bytes = b"") -> None:
        self.writer.write(struct.pack("<6I", command, arg0, arg1, len(data), 0, command ^ 0xFFFFFFFF) + data)

    def abort(self) -> None:
        for stream in self.streams.values():
            stream.end()
        self.writer.transport.abort()

    async def serve(self) -> None:
        while True:
            command, arg0, arg1, length, _, _ = struct.unpack("<6I", await self.reader.readexactly(24))
            data = await self.reader.readexactly(length)
            if command == CNXN or (command == AUTH and arg0 == SIGNATURE):
                # A key that is not known: the phone asks its user, and says nothing until he answered.
                if self.device.authorized:
                    self.send(CNXN, VERSION, MAX_DATA, BANNER)
                else:
                    self.send(AUTH, TOKEN, 0, os.urandom(20))
            elif command == OPEN:
                self.last_id += 1
                self.streams[self.last_id] = stream = Stream(self, self.last_id, arg0)
                self.send(OKAY, stream.id, stream.peer)
                stream.task = asyncio.create_task(stream.serve(data.rstrip(b"\0").decode()))
            elif arg1 in self.streams and command == OKAY:
                self.streams[arg1].ready.set()
            elif arg1 in self.streams and command == WRTE:
                stream = self.streams[arg1]
                stream.reader.feed_data(data)
                self.send(OKAY, stream.id, stream.peer)
            elif arg1 in self.streams and command == CLSE:
                self.streams.pop(arg1).end()
            await self.writer.drain()


class Stream:
    """One service in use: a shell command, or a series of file transfers."""

    def __init__(self, connection: Connection, own: int, peer: int) -> None:
        self.connection, self.id, self.peer = connection, own, peer
        self.device = connection.device
        self.reader = asyncio.StreamReader()
        self.ready = asyncio.Event()
        self.ready.set()
        self.process: asyncio.subprocess.Process | None = None
        self.task: asyncio.Task[None] | None = None

    def end(self) -> None:
        if self.task is not None:
            self.task.cancel()
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):  # what the daemon does to a command whose client is gone
                os.killpg(self.process.pid, signal.SIGHUP)

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), MAX_DATA):
            await self.ready.wait()  # one packet at a time is under way
            self.ready.clear()
            self.connection.send(WRTE, self.id, self.peer, data[start : start + MAX_DATA])

    async def serve(self, service: str) -> None:
        name, _, argument = service.partition(":")
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            if name.startswith("shell,v2"):
                await self.run(argument)
            elif name == "sync":
                await self.sync()
        self.connection.send(CLSE, self.id, self.peer)

    async def run(self, command: str) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *self.device.shell,
            "-c",
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

        async def pump(source: asyncio.StreamReader | None, kind: int) -> None:
            while source is not None and (data := await source.read(1 << 16)):
                await self.write(struct.pack("<BI", kind, len(data)) + data)

        await asyncio.gather(pump(self.process.stdout, STDOUT), pump(self.process.stderr, STDERR))
        code = await self.process.wait()
        await self.write(struct.pack("<BIB", EXIT, 1, code if code >= 0 else 128 - code))

    async def sync(self) -> None:
        while True:
            name, length = struct.unpack("<4sI", await self.reader.readexactly(8))
            if name == b"QUIT":
                return
            path = (await self.reader.readexactly(length)).decode()
            if name == b"STAT":
                stat = Path(path).stat() if Path(path).exists() else None
                fields = (stat.st_mode, min(stat.st_size, 0xFFFFFFFF), int(stat.st_mtime)) if stat else (0, 0, 0)
                await self.write(b"STAT" + struct.pack("<3I", *fields))
            elif name == b"SEND":
                await self.receive(Path(path.rpartition(",")[0]))
            elif name == b"RECV":
                await self.hand_over(Path(path))

    async def receive(self, path: Path) -> None:
        with open(path, "wb") as file:
            while True:
                name, length = struct.unpack("<4sI", await self.reader.readexactly(8))
                if name == b"DONE":
                    break
                file.write(await self.reader.readexactly(length))
                self.device.received += length
                if self.device.drop_after is not None and self.device.received >= self.device.drop_after:
                    self.device.drop_after = None
                    self.device.drop_now()
        reason = b"couldn't create file: No space left on device"
        await self.write(b"FAIL" + struct.pack("<I", len(reason)) + reason if self.device.full else b"OKAY" + bytes(4))

    async def hand_over(self, path: Path) -> None:
        data = bytearray(path.read_bytes())
        if self.device.damage_pulls and data:
            self.device.damage_pulls -= 1
            data[len(data) // 2] ^= 1
        for start in range(0, len(data), 1 << 16):
            piece = bytes(data[start : start + (1 << 16)])
            await self.write(b"DATA" + struct.pack("<I", len(piece)) + piece)
        await self.write(b"DONE" + bytes(4))
