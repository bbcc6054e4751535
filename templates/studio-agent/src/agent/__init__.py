"""Two graphs for LangGraph Studio; see `agent.graph`."""
