--- init.lua: the configuration of the editors that tests and the demo look at.
---
--- Everything it needs to know comes in GEMMA_E2E, a table in JSON:
---   model, lib: paths; options: more of vim.g.gemma; number: 'number'

local given = vim.json.decode(vim.env.GEMMA_E2E or '{}')

vim.opt.runtimepath:prepend(vim.env.GEMMA_TOP)
vim.o.termguicolors = true
vim.o.background = 'dark'
vim.o.swapfile = false
vim.o.number = given.number or false -- its colour is that of ghost text
vim.o.laststatus = 2
vim.o.shortmess = vim.o.shortmess .. 'I'
vim.o.statusline = "%f %m%=%{v:lua.require'gemma'.statusline()} %l:%c "
require('gemma.power').root = '/no-batteries' -- what the machine runs on must not decide either

vim.g.gemma = vim.tbl_deep_extend('force', {
  model_path = given.model,
  lib_path = given.lib,
  load = 'startup',
  -- A test machine may be busy; speed must not decide whether there is ghost text.
  completion = { auto = true },
}, given.options or {})
