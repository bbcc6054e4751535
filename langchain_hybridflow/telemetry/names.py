"""Every name under which something is told to OpenTelemetry.

The `gen_ai` names are those of OpenTelemetry's semantic conventions for generative AI, which are
still moving: they stand here and nowhere else. What the conventions have no word for is under
`hybridflow`.
"""

from __future__ import annotations

from typing import Final

__all__ = ["provider_name"]

# Spans.
ROUTE_SPAN: Final = "hybridflow.route"
RUN_SPAN: Final = "hybridflow.run"
SUBTASK_SPAN: Final = "hybridflow.subtask"

# Events of the span of a routed call.
REFUSAL_EVENT: Final = "hybridflow.refusal"
FALLBACK_EVENT: Final = "hybridflow.fallback"
ESCALATION_EVENT: Final = "hybridflow.escalation"

# The conventions' own attributes.
OPERATION: Final = "gen_ai.operation.name"
CHAT: Final = "chat"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
USAGE_KIND: Final = "gen_ai.token.type"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

# Ours.
TIER: Final = "hybridflow.tier"
DECIDED_TIER: Final = "hybridflow.decided_tier"
ROUTER: Final = "hybridflow.router"
REASON: Final = "hybridflow.reason"
SCORE: Final = "hybridflow.score"
THRESHOLD: Final = "hybridflow.threshold"
PRICE: Final = "hybridflow.price"
EXPECTED_COST_USD: Final = "hybridflow.expected_cost_usd"
COST_USD: Final = "hybridflow.cost_usd"
USAGE_ESTIMATED: Final = "hybridflow.usage_estimated"
DEGRADED: Final = "hybridflow.degraded"
ASKED: Final = "hybridflow.asked"
KEPT_LOCAL: Final = "hybridflow.kept_local"
ATTEMPTS: Final = "hybridflow.attempts"
STATUS: Final = "hybridflow.status"
RUN_ID: Final = "hybridflow.run.id"
RESUMED: Final = "hybridflow.run.resumed"
SUBTASK_ID: Final = "hybridflow.subtask.id"
SUBTASK_ROLE: Final = "hybridflow.subtask.role"

# Metrics; the cost in USD bears the name of the attribute.
USAGE_METRIC: Final = "gen_ai.client.token.usage"
DURATION_METRIC: Final = "gen_ai.client.operation.duration"
USAGE_BOUNDS: Final = tuple(4.0**power for power in range(14))
DURATION_BOUNDS_S: Final = tuple(0.01 * 2.0**power for power in range(14))

# Gauges of a budget: after "hybridflow.budget." here, and after "hybridflow_budget_" in the text
# format of Prometheus.
BUDGET_GAUGES: Final = {
    "spent": "What was spent in the current window.",
    "held": "What open reservations hold.",
    "limit": "The limit.",
    "remaining": "What can still be reserved.",
    "overdraft": "The part of what was spent that no reservation had covered.",
    "shadow_price": "How much quality a call must add for its cost, in quality per USD.",
    "prompts": "How many answered prompts a cap on the share of cloud calls has counted.",
    "cloud_share": "Cloud calls for each of these prompts.",
    "max_cloud_share": "How many of them may make a cloud call, as a share.",
    "accounts": "How many accounts a scope has in the current window.",
    "fullest": "The largest share of its limit that an account of the scope has spent or holds.",
}

# Providers whose name in the conventions is not the one that LangSmith knows them by.
_PROVIDERS: Final = {
    "amazon_bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}


def provider_name(provider: str | None) -> str:
    """Return the name that the conventions have for a provider.

    Example:
        >>> provider_name("google_genai"), provider_name("openai"), provider_name(None)
        ('gcp.gemini', 'openai', 'unknown')
    """
    return _PROVIDERS.get(provider or "", provider or "unknown")
