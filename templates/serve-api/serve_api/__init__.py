"""A routed chat model and a graph of subtasks as a web service."""
