--- operator.lua: verbs that work on a motion or a selection: <Plug>(gemma-explain)ip.

local M = {}

---@class gemma.operator.Verb
---@field command string an Ex command that takes a range
---@field sub string? its subcommand; one that needs words asks for them

---@type table<string, gemma.operator.Verb>
M.verbs = {
  explain = { command = 'GemmaExplain' },
  ask = { command = 'Gemma', sub = 'ask' },
  edit = { command = 'Gemma', sub = 'edit' },
  fix = { command = 'Gemma', sub = 'fix' },
}

--- All maps of Normal mode that plugin/gemma.lua makes, for the help file.
---@type { name: string, desc: string }[]
M.plugs = {
  { name = 'explain', desc = 'Operator: explain the lines.' },
  { name = 'ask', desc = 'Operator: ask about them; the question is asked for.' },
  { name = 'edit', desc = 'Operator: rewrite them; the instruction is asked for.' },
  { name = 'fix', desc = 'Operator: repair what the diagnostics say.' },
  { name = 'explain-here', desc = 'Explain the function or the paragraph here.' },
  { name = 'image', desc = ':Gemma image' },
  { name = 'shot', desc = ':Gemma shot' },
  { name = 'record', desc = ':Gemma record voice; while one runs, :Gemma record stop' },
  { name = 'dictate', desc = ':Gemma dictate; in Insert mode too' },
  { name = 'stop', desc = ':Gemma stop' },
  { name = 'status', desc = ':Gemma status' },
  { name = 'toggle', desc = ':Gemma toggle' },
}

local verb = 'explain'

--- The keys of an expression mapping in Normal and Visual mode.
---@param name string
---@return string
function M.keys(name)
  verb = name
  vim.o.operatorfunc = "v:lua.require'gemma.operator'.go"
  return 'g@'
end

--- Begins to record a question, or ends the recording that runs.
function M.record()
  local record = package.loaded['gemma.record']
  vim.cmd(record and record.active() and 'Gemma record stop' or 'Gemma record voice')
end

--- 'operatorfunc'. Whole lines: the model reads lines.
function M.go()
  local v = M.verbs[verb]
  local first = vim.api.nvim_buf_get_mark(0, '[')[1]
  local last = vim.api.nvim_buf_get_mark(0, ']')[1]
  vim.cmd({ cmd = v.command, args = { v.sub }, range = { first, last } })
end

return M
