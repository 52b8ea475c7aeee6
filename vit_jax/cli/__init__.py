"""The verbs a person types: parse, call one function of a room, print."""
