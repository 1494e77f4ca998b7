"""llama-cpp-python is compiled when it is installed, which takes long: what needs it is collected where it is there."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("llama_cpp") else ["gguf/test_llama_cpp.py"]
