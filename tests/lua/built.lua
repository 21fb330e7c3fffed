--- built.lua: the folder that this build is in, as a whole path: that of BUILD, or build/.

local here = vim.fs.dirname(vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p'))
local build = vim.env.BUILD or 'build'
return build:sub(1, 1) == '/' and build or vim.fs.dirname(vim.fs.dirname(here)) .. '/' .. build
