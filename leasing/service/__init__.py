"""Use cases: one public function each. They take a session and `now`, flush, and never commit or call an engine."""
