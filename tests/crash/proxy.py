"""A TCP proxy between a client and its server that breaks things: drops, delays, cuts in the middle, closes one half."""
import asyncio
import contextlib
import socket
import struct
import threading

FAULTS = ('drop', 'refuse', 'delay', 'cut body', 'cut answer', 'no answer', 'half-close')
PIECE = 16 << 10


class Proxy:
    """Runs in a thread of its own as long as the program. One fault at a time; it lasts until heal()."""

    def __init__(self, to_port):
        self.to_port, self.fault, self.left = to_port, None, 0
        self.pairs = set()
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self.thread.start()
        ready.wait()

    def _run(self, ready):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._connection, '127.0.0.1', 0))
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self.loop.run_forever()

    def strike(self, fault, after):
        """after: bytes that still pass, for those that act in the middle of something."""
        def now():
            self.fault, self.left = fault, after
            if fault == 'drop':
                self._cut_all()
        self.loop.call_soon_threadsafe(now)

    def heal(self):
        self.strike(None, 0)

    def _cut_all(self):
        for pair in list(self.pairs):
            self._cut(pair)

    def _cut(self, pair):
        """A reset, as by a machine that forgot the connection: nothing that is under way arrives."""
        for writer in pair:
            with contextlib.suppress(OSError, AttributeError):
                writer.get_extra_info('socket').setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            writer.transport.abort()

    async def _connection(self, reader, writer):
        if self.fault == 'refuse':
            self._cut((writer,))
            return
        try:
            up_reader, up_writer = await asyncio.open_connection('127.0.0.1', self.to_port)
        except OSError:
            self._cut((writer,))
            return
        pair = (writer, up_writer)
        self.pairs.add(pair)
        try:
            await asyncio.gather(self._pump(reader, up_writer, pair, True), self._pump(up_reader, writer, pair, False))
        finally:
            self.pairs.discard(pair)
            for w in pair:
                w.close()

    async def _pump(self, reader, writer, pair, up):
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE):
                while self.fault == 'delay':
                    await asyncio.sleep(0.01)
                if not await self._pass(data, writer, pair, up):
                    return
            writer.write_eof()

    async def _pass(self, data, writer, pair, up):
        if self.fault == ('cut body' if up else 'cut answer') or (self.fault == 'half-close' and up):
            data, cut = data[:self.left], len(data) >= self.left
            self.left -= len(data)
            writer.write(data)
            await writer.drain()
            if cut and self.fault == 'half-close':
                writer.write_eof()
                return False
            if cut:
                self._cut(pair)
                return False
            return True
        if self.fault == 'no answer' and not up:  # it was done, and the client does not learn of it
            self._cut(pair)
            return False
        writer.write(data)
        await writer.drain()
        return True
