"""A KV connector that moves nothing: it says what a real one would say to the scheduler."""

from __future__ import annotations

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
)

HAS_TOKENS = 32


class FakeConnector(KVConnectorBase_V1):
    """Has the first tokens of every fourth long prompt, and must think five times over some."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.loaded: set[str] = set()
        self.asked: dict[int, int] = {}

    def get_num_new_matched_tokens(self, request, num_computed_tokens):
        at = int(request.request_id[1:])
        fresh = request.request_id not in self.loaded and num_computed_tokens < HAS_TOKENS
        if at % 4 == 0 and fresh and request.num_prompt_tokens > HAS_TOKENS + 1:
            return HAS_TOKENS - num_computed_tokens, True
        if at % 7 == 3:
            self.asked[at] = self.asked.get(at, 0) + 1
            if self.asked[at] <= 5:
                return None, False
        return 0, False

    def update_state_after_alloc(self, request, blocks, num_external_tokens):
        if num_external_tokens:
            self.loaded.add(request.request_id)

    def build_connector_meta(self, scheduler_output):
        return KVConnectorMetadata()

    def request_finished(self, request, block_ids):
        return False, None

    def start_load_kv(self, *args, **kwargs): ...

    def wait_for_layer_load(self, *args, **kwargs): ...

    def save_kv_layer(self, *args, **kwargs): ...

    def wait_for_save(self): ...
