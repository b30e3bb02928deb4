"""`colsearcher serve-shard`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from colsearcher.agent.flags import option
from colsearcher.agent.range import Range
from colsearcher.agent.terminal import tell


@dataclass(frozen=True)
class ServeShard:
    """Let other machines search an index as one shard of theirs: write http://THIS-MACHINE:PORT into the shards.json of the
    index there, in place of a shard's folder. Whoever reaches the port can read the index; there is no password, so only this
    machine can, unless --host says more. Reading only; runs until it is stopped."""

    index: Path = option("the index folder", metavar="DIR")
    port: int = option("where to answer; 0 for any free port", default=8750, metavar="N", within=Range(least=0, most=65535))
    host: str = option("the address to answer at; 0.0.0.0 for other machines", default="127.0.0.1")
    device: str = option("cpu, cuda, or auto", default="auto")

    def run(self) -> int:
        from colsearcher.indexes.page_index import PageIndex
        from colsearcher.indexes.shard_server import ShardServer

        with (
            PageIndex.open(self.index, device=self.device) as index,
            ShardServer(index, self.host, self.port) as server,
        ):
            tell(f"serving {len(index.pages()):,} pages of {self.index} at http://{self.host}:{server.server_port}")
            server.serve_forever()
        return 0
