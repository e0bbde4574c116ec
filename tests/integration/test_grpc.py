"""gRPC through the production plane: a real client, a real server, streams both ways and trailers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from tests.support import fronts
from tests.support.fronts import Fronted, target, view, visitor


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """Answers what it was sent, and who the platform says the caller is."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        self.metadata = dict(details.invocation_metadata)
        match details.method:
            case "/echo.Echo/Once":
                return grpc.unary_unary_rpc_method_handler(lambda request, _: request.upper())
            case "/echo.Echo/Chat":
                return grpc.stream_stream_rpc_method_handler(
                    lambda requests, _: (one.upper() for one in requests)
                )
            case "/echo.Echo/Refuse":

                def refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
                    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the model is not loaded")
                    return b""

                return grpc.unary_unary_rpc_method_handler(refuse)
        return None


@pytest.fixture
def served() -> Iterator[tuple[int, Echo]]:
    echo = Echo()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[echo])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port, echo
    server.stop(None).wait()


@pytest.fixture
def front(tmp_path: Path, served: tuple[int, Echo]) -> Iterator[Fronted]:
    with fronts.opened(tmp_path, core={"gateway_domain": "apps.test"}) as made:
        made.front.push(view([visitor("s")], [target(served[0])]))
        yield made


@pytest.mark.parametrize("how", ["metadata", "host"])
def test_calls_streams_and_refusals_pass_with_their_trailers(
    front: Fronted, served: tuple[int, Echo], how: str
) -> None:
    ours = [("authorization", "Bearer s")] + ([("leasing-lease", "app")] if how == "metadata" else [])
    options = [("grpc.default_authority", "app.apps.test")] if how == "host" else []
    with grpc.insecure_channel(f"127.0.0.1:{front.settings.gateway_port}", options=options) as channel:
        once = channel.unary_unary("/echo.Echo/Once")
        assert once(b"hello", metadata=ours, timeout=10) == b"HELLO"
        assert once(b"x" * 3_000_000, metadata=ours, timeout=10) == b"X" * 3_000_000
        told = served[1].metadata
        assert told["x-leasing-user"] == "ada"
        assert not {"authorization", "leasing-lease"} & set(told)
        chat = channel.stream_stream("/echo.Echo/Chat")
        said = chat(iter([b"a", b"b", b"c"]), metadata=ours, timeout=10)
        assert list(said) == [b"A", b"B", b"C"]
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/echo.Echo/Refuse")(b"", metadata=ours, timeout=10)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert refused.value.details() == "the model is not loaded"


def test_whoever_may_not_call_gets_no_further(front: Fronted, served: tuple[int, Echo]) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{front.settings.gateway_port}") as channel:
        for metadata in (
            [("leasing-lease", "app")],
            [("authorization", "Bearer x"), ("leasing-lease", "app")],
        ):
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary("/echo.Echo/Once")(b"", metadata=metadata, timeout=10)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE, (
                "the built-in plane, which is away here, would say"
            )
    assert served[1].metadata == {}


def test_a_stream_is_cut_with_its_token(front: Fronted, served: tuple[int, Echo]) -> None:
    ours = [("authorization", "Bearer s"), ("leasing-lease", "app")]
    with grpc.insecure_channel(f"127.0.0.1:{front.settings.gateway_port}") as channel:

        def forever() -> Iterator[bytes]:
            while True:
                yield b"a"
                if not waiting:
                    return

        waiting = [True]
        answers = channel.stream_stream("/echo.Echo/Chat")(forever(), metadata=ours, timeout=20)
        assert next(answers) == b"A"
        front.front.push(view([], [target(served[0])]))
        with pytest.raises(grpc.RpcError):
            for _ in answers:
                pass
        waiting.clear()
