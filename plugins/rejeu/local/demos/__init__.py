"""The demos of the streams that come along: what each feeds in, and what must come out."""
