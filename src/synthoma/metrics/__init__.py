"""Pure numbers: arrays in, numbers out. Float64 on the CPU, no files, no caches, no images."""
