std = "luajit"
globals = { "vim" }
max_line_length = 120 -- stylua breaks at 100, but not within strings and comments
exclude_files = { ".deps", "build", "lua/gemma/cdef.lua" }
