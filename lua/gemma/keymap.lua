--- keymap.lua: Insert mode keys: what they do, defaults where the key is free, passthrough. The
--- <Plug> maps themselves are in plugin/gemma.lua, so that they exist before this is loaded.

local M = {}

local api = vim.api

---@class gemma.Key
---@field key string default
---@field plug string
---@field verb string
---@field desc string
---@field passes boolean does what it always did when no ghost text is shown

---@type gemma.Key[]
M.keys = {
  {
    key = '<M-l>',
    plug = '<Plug>(gemma-accept)',
    verb = 'accept',
    desc = 'Gemma: accept the suggestion',
    passes = true,
  },
  {
    key = '<M-Right>',
    plug = '<Plug>(gemma-accept-word)',
    verb = 'accept_word',
    desc = 'Gemma: accept one word',
    passes = true,
  },
  {
    key = '<M-Down>',
    plug = '<Plug>(gemma-accept-line)',
    verb = 'accept_line',
    desc = 'Gemma: accept one line',
    passes = true,
  },
  {
    key = '<M-]>',
    plug = '<Plug>(gemma-next)',
    verb = 'next',
    desc = 'Gemma: another suggestion',
    passes = true,
  },
  {
    key = '<M-[>',
    plug = '<Plug>(gemma-prev)',
    verb = 'prev',
    desc = 'Gemma: the suggestion before',
    passes = true,
  },
  {
    key = '<C-]>',
    plug = '<Plug>(gemma-dismiss)',
    verb = 'dismiss',
    desc = 'Gemma: dismiss the suggestion',
    passes = true,
  },
  {
    key = '<M-\\>',
    plug = '<Plug>(gemma-ask)',
    verb = 'request',
    desc = 'Gemma: ask for a suggestion now',
    passes = false,
  },
}

local KIND = { accept = 'all', accept_word = 'word', accept_line = 'line' }

--- What a key does without its mapping.
---@param key string
---@return string keys for an expression mapping
local function pass(key)
  local name = key:match('^<M%-(.+)>$')
  if not name then
    return key
  end
  -- An unmapped <M-x> in Insert mode means <Esc>x, typed. A macro that is recorded gets these two
  -- behind the <M-x>, which then has nothing left to do where the macro is executed.
  if vim.fn.reg_executing() == '' then
    local keys = '<Esc>' .. (#name == 1 and name or '<' .. name .. '>')
    -- Some terminals need a mapping of <Esc>x to <M-x>; remapped keys would go round in circles there.
    local mode = vim.fn.maparg(keys, 'i') == '' and 'it' or 'nit'
    api.nvim_feedkeys(vim.keycode(keys), mode, false)
  end
  return ''
end

--- What an Insert mode key does. Accepting breaks the undo sequence on both sides, so that `u`
--- takes back exactly the accepted text.
---@param verb string
---@param key string? passed on when there is nothing to act on
---@return string keys for an expression mapping
function M.run(verb, key)
  local ghost = require('gemma.ghost')
  if verb == 'request' then
    return '<Cmd>lua require("gemma").request()<CR>'
  elseif verb == 'dismiss' and require('gemma.waiting').active() then
    return '<Cmd>lua require("gemma").dismiss()<CR>'
  elseif not ghost.visible() then
    return key and pass(key) or ''
  elseif not KIND[verb] then
    return ('<Cmd>lua require("gemma").%s()<CR>'):format(verb)
  end
  return ('<C-g>u<Cmd>lua require("gemma.completion").accept("%s")<CR><C-g>u'):format(KIND[verb])
end

---@param keys string in any spelling
---@param maps table[]
---@return table? the mapping
local function find(keys, maps)
  local raw = vim.keycode(keys)
  for _, m in ipairs(maps) do
    if m.lhsraw == raw or m.lhsrawalt == raw or m.lhs == keys then
      return m
    end
  end
end

local ours = {} ---@type table<function, true> what the default keys call

--- Returns what an Insert mode key is mapped to; nil when it is free or ours.
---@param key string
---@param buf integer? look at this buffer's own maps too
---@return string?
function M.owner(key, buf)
  local m = buf and find(key, api.nvim_buf_get_keymap(buf, 'i')) or nil
  m = m or find(key, api.nvim_get_keymap('i'))
  if not m or ours[m.callback] then
    return nil
  end
  return m.desc or (m.rhs and m.rhs ~= '' and m.rhs) or 'a Lua function'
end

---@param k gemma.Key
local function define_default(k)
  if vim.fn.hasmapto(k.plug, 'i') == 1 or M.owner(k.key) then
    return
  end
  local function run()
    return M.run(k.verb, k.passes and k.key or nil)
  end
  ours[run] = true
  vim.keymap.set('i', k.key, run, { expr = true, replace_keycodes = true, desc = k.desc })
end

--- The key that does something in Insert mode, whoever mapped it.
---@param verb string
---@return string? key nil: none does
function M.key(verb)
  local k = vim.iter(M.keys):find(function(k)
    return k.verb == verb
  end)
  local maps = api.nvim_get_keymap('i')
  local default = find(k.key, maps)
  if default and ours[default.callback] then
    return k.key
  end
  for _, m in ipairs(maps) do
    if m.rhs and m.rhs:find(k.plug, 1, true) then
      return m.lhs
    end
  end
end

local ready = false

--- The default keys: each only where it is free and its <Plug> map is not used otherwise. Called
--- on the first Insert mode, when everybody else has mapped theirs.
function M.setup()
  if ready or not require('gemma.config').get().keymaps then
    return
  end
  ready = true
  for _, k in ipairs(M.keys) do
    define_default(k)
  end
end

return M
