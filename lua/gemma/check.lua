--- check.lua: the arguments of the public functions, looked at before anything is done with them.
---
--- There are two kinds of trouble. An argument that is missing or has a wrong type is a mistake in the
--- program that calls: `wrong`, which init.lua raises as an error at the line of the call. A value that
--- cannot be served, such as a line that the buffer does not have any more, is `refused` and told in the
--- way in which that function tells its failures. Both are one line without a full stop: function,
--- argument, what is allowed.

local sessions = require('gemma.sessions')

local M = {}

local api = vim.api

local MOST = 2 ^ 31 - 1 -- of a number that the library counts with

---@param v any
---@return boolean
local function is_integer(v)
  return type(v) == 'number' and v == math.floor(v) and math.abs(v) <= 2 ^ 53
end

--- Is it a list of such values?
---@param v any
---@param kind string of Lua
---@return boolean
local function is_list(v, kind)
  if type(v) ~= 'table' then
    return false
  end
  for _, item in ipairs(v) do
    if type(item) ~= kind then
      return false
    end
  end
  return true
end

---@class (exact) gemma.check.Kind
---@field is string what is expected, in words
---@field ok fun(v: any): boolean

---@type table<string, gemma.check.Kind>
local KINDS = {
  integer = { is = 'an integer', ok = is_integer },
  ['function'] = { is = 'a function', ok = vim.is_callable },
  strings = {
    is = 'a list of strings',
    ok = function(v)
      return is_list(v, 'string')
    end,
  },
  paths = {
    is = 'a path or a list of them',
    ok = function(v)
      return type(v) == 'string' or is_list(v, 'string')
    end,
  },
  tables = {
    is = 'a list of tables',
    ok = function(v)
      return is_list(v, 'table')
    end,
  },
}
for _, name in ipairs({ 'string', 'number', 'boolean', 'table' }) do
  KINDS[name] = {
    is = 'a ' .. name,
    ok = function(v)
      return type(v) == name
    end,
  }
end

---@param v any
---@return string
local function shown(v)
  return type(v) == 'number' and tostring(v) or type(v)
end

--- One line about an argument.
---@param name string of the public function
---@param field string
---@param is string what is allowed
---@param v any what was given
---@return string
local function line(name, field, is, v)
  return ('gemma.%s(): %s: expected %s, got %s'):format(name, field, is, shown(v))
end

--- Fields in the order in which they are looked at: name and kind; one with ? may be missing.
---@alias gemma.check.Spec { [1]: string, [2]: string }[]

---@param name string of the public function
---@param given any
---@param spec gemma.check.Spec
---@param where string? what stands before the name of a field
---@return string? wrong
local function fields(name, given, spec, where)
  if type(given) ~= 'table' then
    return line(name, where or 'opts', 'a table', given)
  end
  for _, field in ipairs(spec) do
    local kind, optional = field[2]:match('^(.-)(%??)$')
    local v = given[field[1]]
    if not (v == nil and optional == '?') and not KINDS[kind].ok(v) then
      return line(name, (where and where .. '.' or '') .. field[1], KINDS[kind].is, v)
    end
  end
end

--- Is an integer, when there is one, between two others?
---@param name string of the public function
---@param given table
---@param field string
---@param from integer
---@param to integer
---@return string? refused
local function range(name, given, field, from, to)
  local v = given[field]
  if v and (v < from or v > to) then
    local allowed = to == MOST and ('%d or more'):format(from) or ('%d to %d'):format(from, to)
    return line(name, field, allowed, v)
  end
end

---@param name string of the public function
---@param buf integer 0 is the current one
---@return string? refused
local function loaded(name, buf)
  if not api.nvim_buf_is_loaded(buf) then
    return line(name, 'buf', 'a loaded buffer', buf)
  end
end

-- ---- ask -----------------------------------------------------------------------------------

local TURN = {
  { 'role', 'string' },
  { 'text', 'string' },
  { 'parts', 'tables?' },
  { 'images', 'paths?' },
  { 'audio', 'paths?' },
  { 'video', 'paths?' },
}

local ASK = {
  { 'prompt', 'string' },
  { 'system', 'string?' },
  { 'parts', 'tables?' },
  { 'images', 'paths?' },
  { 'audio', 'paths?' },
  { 'video', 'paths?' },
  { 'image_tokens', 'integer?' },
  { 'history', 'tables?' },
  { 'answer', 'string?' },
  { 'stops', 'strings?' },
  { 'max_tokens', 'integer?' },
  { 'thinking', 'boolean?' },
  { 'temperature', 'number?' },
  { 'seed', 'integer?' },
  { 'session', 'integer?' },
  { 'fork_from', 'integer?' },
  { 'on_token', 'function?' },
  { 'on_thought', 'function?' },
  { 'on_progress', 'function?' },
  { 'on_done', 'function?' },
}

---@param history gemma.Turn[]
---@return string? wrong
local function turns(history)
  for i, turn in ipairs(history) do
    local where = ('history[%d]'):format(i)
    local wrong = fields('ask', turn, TURN, where)
    if not wrong and turn.role ~= 'user' and turn.role ~= 'model' then
      wrong = line('ask', where .. '.role', "'user' or 'model'", turn.role)
    end
    if wrong then
      return wrong
    end
  end
end

--- The plugin's own features keep what they have in the other sessions.
---@param session integer?
---@return string? refused
local function own_session(session)
  local one, other = sessions.PLUGINS, sessions.PLUGINS_TOO
  if session and session ~= one and session ~= other then
    return line('ask', 'session', ('%d or %d'):format(one, other), session)
  end
end

---@param o gemma.AskOpts
---@return string? wrong
---@return string? refused
function M.ask(o)
  local wrong = fields('ask', o, ASK) or turns(o.history or {})
  if wrong then
    return wrong
  end
  local why = own_session(o.session) or range('ask', o, 'fork_from', 0, sessions.CANDIDATES)
  return nil, why or range('ask', o, 'max_tokens', 0, MOST)
end

-- ---- complete ------------------------------------------------------------------------------

local COMPLETE = {
  { 'on_done', 'function' },
  { 'prefix', 'string?' },
  { 'suffix', 'string?' },
  { 'language', 'string?' },
  { 'path', 'string?' },
  { 'max_tokens', 'integer?' },
  { 'max_lines', 'integer?' },
}

local PLACE = { { 'buf', 'integer' }, { 'row', 'integer' }, { 'col', 'integer' } }

--- Is there such a place?
---@param o gemma.CompleteOpts
---@return string? refused
local function place(o)
  local why = loaded('complete', o.buf)
    or range('complete', o, 'row', 0, api.nvim_buf_line_count(o.buf) - 1)
  if why then
    return why
  end
  local len = require('gemma.context.text').line_len(o.buf, o.row)
  return range('complete', o, 'col', 0, len)
end

---@param o gemma.CompleteOpts
---@return string? wrong
---@return string? refused
function M.complete(o)
  local wrong = fields('complete', o, COMPLETE)
    or (not o.prefix and fields('complete', o, PLACE) or nil)
  if wrong then
    return wrong
  end
  return nil,
    range('complete', o, 'max_tokens', 0, MOST)
      or range('complete', o, 'max_lines', 1, MOST)
      or (not o.prefix and place(o) or nil)
end

-- ---- edit and fix --------------------------------------------------------------------------

local EDIT = {
  { 'instruction', 'string' },
  { 'buf', 'integer?' },
  { 'first', 'integer' },
  { 'last', 'integer' },
}

local FIX = {
  { 'buf', 'integer?' },
  { 'first', 'integer?' },
  { 'last', 'integer?' },
  { 'diagnostics', 'tables?' },
}

--- Lines of a buffer. A last one behind the end means the end, as in Neovim's own functions; a first one
--- that is not there means other lines than the caller thinks.
---@param name string of the public function
---@param o { buf: integer?, first: integer, last: integer? } 1-based
---@return string? refused
---@return integer? last
local function lines(name, o)
  local buf = o.buf or 0
  local why = loaded(name, buf)
  if why then
    return why
  end
  local n = api.nvim_buf_line_count(buf)
  why = range(name, o, 'first', 1, n) or range(name, o, 'last', o.first, MOST)
  return why, not why and math.min(o.last or o.first, n) or nil
end

---@param o { buf: integer?, first: integer, last: integer, instruction: string }
---@return string? wrong
---@return string? refused
---@return integer? last the last line that there is
function M.edit(o)
  local wrong = fields('edit', o, EDIT)
  if wrong then
    return wrong
  end
  return nil, lines('edit', o)
end

---@param o gemma.FixOpts?
---@return string? wrong
---@return string? refused
---@return integer? last the last line that there is, when lines were given
function M.fix(o)
  local wrong = o ~= nil and fields('fix', o, FIX) or nil
  if wrong then
    return wrong
  elseif o and o.last and not o.first then
    return line('fix', 'first', 'an integer beside last', nil)
  elseif o and o.first then
    return nil, lines('fix', o)
  end
  return nil, loaded('fix', o and o.buf or 0)
end

-- ---- the others ----------------------------------------------------------------------------

---@param name string of the public function
---@param buf integer? 0 is the current one
---@return string? wrong
function M.buffer(name, buf)
  if buf ~= nil and not (is_integer(buf) and api.nvim_buf_is_valid(buf)) then
    return line(name, 'buf', 'a buffer', buf)
  end
end

---@param name string of the public function
---@param arg string its name
---@param kind string of KINDS, and ? where it may be missing
---@param v any
---@return string? wrong
function M.argument(name, arg, kind, v)
  return fields(name, { [arg] = v }, { { arg, kind } })
end

return M
