"""The fixtures of the API suite (tests/api/conftest.py) serve these tests too."""
import importlib.util
import os

path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'api', 'conftest.py')
spec = importlib.util.spec_from_file_location('api_fixtures', path)
fixtures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fixtures)
patterns, private_server, cluster_end = fixtures.patterns, fixtures.private_server, fixtures.cluster_end
