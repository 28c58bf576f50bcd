"""What clients ask lists of repos for: run by the interpreter of a client's environment, with the
hub in HF_ENDPOINT. Prints what came back as JSON."""

# Run by another interpreter, which has what is missing here.
# pyright: reportMissingImports=false
import json

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

api = HfApi(token=False)


def ids(found) -> list[str]:
    return [each.id for each in found]


expanded = api.list_models(filter="chat", expand=["pipeline_tag"])
full = api.list_models(filter="chat", full=True, cardData=True)
try:
    list(api.list_models(apps="vllm"))
    refused = None
except HfHubHTTPError as error:
    refused = error.response.status_code

print(
    json.dumps(
        {
            "filter": ids(api.list_models(filter="chat")),
            "both": ids(api.list_models(filter=["chat", "license:mit"], search="BI")),
            "task": ids(api.list_models(pipeline_tag="text-generation")),
            "trained": ids(api.list_models(trained_dataset="lab/texts")),
            "author": ids(api.list_models(filter="en", author="me", limit=5)),
            "gated": ids(api.list_models(gated=True)),
            "parameters": ids(api.list_models(filter="num:1"))
            if not hasattr(api, "list_buckets")
            else ids(api.list_models(num_parameters="min:6B,max:128B")),
            "created": ids(api.list_models(sort="created_at")),
            "expand": [[each.id, each.pipeline_tag, each.siblings] for each in expanded],
            "full": [
                [each.id, (each.card_data or {}).get("license"), bool(each.siblings)]
                for each in full
            ],
            "datasets": ids(
                api.list_datasets(task_categories="question-answering", language="en", filter="law")
            ),
            "no_datasets": ids(api.list_datasets(size_categories="1K<n<10K")),
            "refused": refused,
        }
    )
)
