"""The wire: pydantic models shared by api, SDK and command line. No SQL, no HTTP."""
