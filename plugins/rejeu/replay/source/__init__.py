"""Where rows come from: each kind of source has a module here, `choose` opens the one that a request names."""
