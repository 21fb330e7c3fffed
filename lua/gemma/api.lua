--- api.lua: the public functions and events, as data: what the help says, since when they exist,
--- and what takes the place of one that goes. Code no user needs to load.

local M = {}

---@class gemma.api.Function
---@field name string field of require('gemma')
---@field args string
---@field since string version in which it came
---@field desc string
---@field see string? tag of the help that says more, where that is not this list
---@field instead string? deprecated: what to use
---@field until_version string? deprecated: the version that drops it

---@type gemma.api.Function[]
M.functions = {
  { name = 'setup', args = '{opts}', since = '0.1.0', desc = 'Merge opts into vim.g.gemma.' },
  { name = 'start', args = '', since = '0.1.0', desc = 'Listen from now on; Insert mode does it.' },
  {
    name = 'load',
    args = '{on_ready}',
    since = '0.1.0',
    desc = 'Load the model; on_ready(err) hears of the end.',
  },
  { name = 'unload', args = '', since = '0.1.0', desc = 'Give its memory back.' },
  { name = 'stop', args = '', since = '0.1.0', desc = 'End all that is being generated.' },
  { name = 'enable', args = '{buf}', since = '0.1.0', desc = 'Ghost text on; 0 is this buffer.' },
  { name = 'disable', args = '{buf}', since = '0.1.0', desc = 'Ghost text off.' },
  { name = 'toggle', args = '{buf}', since = '0.1.0', desc = 'Either; returns true for on.' },
  {
    name = 'accept',
    args = '',
    since = '0.1.0',
    desc = 'As the key; true if something was shown.',
  },
  { name = 'accept_word', args = '', since = '0.1.0', desc = 'The same for a word.' },
  { name = 'accept_line', args = '', since = '0.1.0', desc = 'The same for a line.' },
  { name = 'next', args = '', since = '0.1.0', desc = 'Another suggestion.' },
  { name = 'prev', args = '', since = '0.1.0', desc = 'The suggestion before.' },
  { name = 'dismiss', args = '', since = '0.1.0', desc = 'Take down what is shown.' },
  { name = 'visible', args = '', since = '0.1.0', desc = 'Is something shown?' },
  { name = 'request', args = '', since = '0.1.0', desc = 'Ask for a suggestion now.' },
  {
    name = 'status',
    args = '',
    since = '0.1.0',
    desc = [[A table: state and reason, enabled, here and paused (why nothing comes),
model_path, mmproj_path, lender and lent_to (other Neovims), progress of
loading, version, and numbers of the model's speed and memory.]],
  },
  {
    name = 'statusline',
    args = '',
    since = '0.1.0',
    desc = 'A few characters.',
    see = 'gemma-statusline',
  },
  { name = 'ask', args = '{opts}', since = '0.1.0', desc = 'Ask the model.', see = 'gemma.ask()' },
  {
    name = 'complete',
    args = '{opts}',
    since = '0.1.0',
    desc = 'Complete code.',
    see = 'gemma.complete()',
  },
  {
    name = 'edit',
    args = '{opts}',
    since = '0.1.0',
    desc = 'As :Gemma edit.',
    see = 'gemma.edit()',
  },
  { name = 'fix', args = '{opts}', since = '0.1.0', desc = 'As :Gemma fix.', see = 'gemma.fix()' },
}

---@class gemma.api.Event
---@field name string
---@field data string what is in ev.data

---@type gemma.api.Event[]
M.events = {
  { name = 'GemmaState', data = 'from, to, reason' },
  {
    name = 'GemmaGhostShow',
    data = [[buf, chars, kind ('auto', 'manual', 'next', 'kept'), ms_first, ms_total,
tokens, reused: it appears where none was]],
  },
  { name = 'GemmaGhostAccept', data = "the same; kind is 'all', 'word' or 'line'" },
  { name = 'GemmaGhostDismiss', data = 'the same: by the key' },
  { name = 'GemmaGhostClear', data = 'the same, and why: whenever it goes' },
  { name = 'GemmaAnswerStart', data = 'buf (of the window), source (buffer asked about)' },
  { name = 'GemmaAnswerDone', data = 'buf, source, ok' },
  { name = 'GemmaEditPreview', data = 'buf, hunks: a change is shown' },
  { name = 'GemmaEditApplied', data = 'buf, hunks, of: so many of so many were accepted' },
  { name = 'GemmaEditRejected', data = 'buf: all were rejected, or withdrawn' },
  { name = 'GemmaRecordStart', data = "kind ('voice' or 'screen'), tool: the first to be tried" },
  {
    name = 'GemmaRecordStop',
    data = "kind, seconds, reason ('stop', 'limit', 'cancel' or 'vanished')",
  },
  {
    name = 'GemmaProgress',
    data = [[title, text, percent, status ('running', 'success', 'failed', 'cancel'):
long tasks; on Neovim 0.12 they are |progress-message|s too]],
  },
  { name = 'GemmaError', data = 'code, msg' },
}

--- Of status().state and of GemmaState.
-- stylua: ignore
M.states = {
  'off', 'nolib', 'nomodel', 'installing', 'loading', 'ready', 'borrowed', 'prefill',
  'generating', 'error',
}

--- Puts functions that are deprecated into a module: each says so once and does what takes its
--- place. Nothing is deprecated today.
---@param module table
---@param list gemma.api.Function[]?
function M.deprecated(module, list)
  for _, f in ipairs(list or M.functions) do
    local new = f.instead
    if new and f.until_version then
      module[f.name] = function(...)
        vim.deprecate("require('gemma')." .. f.name, new, f.until_version, 'gemma.nvim', false)
        return module[new](...)
      end
    end
  end
end

return M
