--- lsp.lua: a language server without a process: it answers textDocument/inlineCompletion, so that
--- Neovim's own inline completion (0.12) shows what the model writes, and offers code actions.
---
--- Speaks the two functions of vim.lsp.rpc.PublicClient; everything it answers comes from the same
--- places as ghost text and the commands. Positions count UTF-16 units, as with most servers: two
--- encodings in one buffer confuse Neovim.

local M = {}

local util = require('gemma.util')

local api = vim.api

local NAME = 'gemma'
local SIGTERM = 15
local INVOKED = 1 -- triggerKind: asked for by a key

---@param line string
---@param character integer UTF-16 units
---@return integer bytes
local function to_byte(line, character)
  local col = vim.fn.byteidxcomp(util.no_nul(line), character, true)
  return col < 0 and #line or col
end

---@param line string
---@param col integer bytes
---@return integer UTF-16 units
local function to_character(line, col)
  return vim.fn.strutf16len(util.no_nul(line:sub(1, col)), true)
end

--- The buffer of a name. One without a name can only be the current one.
---@param uri string
---@return integer
local function buf_of(uri)
  local buf = api.nvim_get_current_buf()
  return vim.uri_from_bufnr(buf) == uri and buf or vim.uri_to_bufnr(uri)
end

---@param buf integer
---@param row integer
---@return string
local function line_at(buf, row)
  return api.nvim_buf_get_lines(buf, row, row + 1, false)[1] or ''
end

-- ---- inline completion ---------------------------------------------------------------------

local pending = {} ---@type table<integer, fun()> by request id: cancels it
local current = nil ---@type integer? the request that is being answered; a newer one ends it

---@param params table
---@param id integer
---@param reply fun(result: table?)
local function inline_completion(params, id, reply)
  local buf = buf_of(params.textDocument.uri)
  local invoked = (params.context or {}).triggerKind == INVOKED
  local allow = require('gemma.allow')
  if not api.nvim_buf_is_loaded(buf) or not allow.is_on() or allow.buffer_reason(buf) then
    return reply(nil)
  elseif not invoked and (allow.moment_reason() or not require('gemma.engine').is_loaded()) then
    return reply(nil)
  end
  if current and pending[current] then
    pending[current]()
  end
  local row = params.position.line
  local line = line_at(buf, row)
  local col = to_byte(line, params.position.character)
  local tick = api.nvim_buf_get_changedtick(buf)
  local handle
  local function finish(result)
    if pending[id] then
      pending[id] = nil
      current = current ~= id and current or nil
      reply(result)
    end
  end
  current = id
  pending[id] = function()
    finish(nil)
    if handle then
      handle.cancel()
    end
  end
  handle = require('gemma.complete').complete({
    buf = buf,
    row = row,
    col = col,
    on_done = function(text, _, swallow)
      local stale = not api.nvim_buf_is_loaded(buf) or api.nvim_buf_get_changedtick(buf) ~= tick
      if not text or text == '' or stale then
        return finish(nil)
      end
      local from = { line = row, character = to_character(line, col) }
      local to = { line = row, character = to_character(line, col + (swallow or 0)) }
      finish({ items = { { insertText = text, range = { start = from, ['end'] = to } } } })
    end,
  })
end

-- ---- code actions --------------------------------------------------------------------------

---@param params table
---@return table[]
local function code_actions(params)
  local buf = buf_of(params.textDocument.uri)
  if require('gemma.exclude').buffer_is_excluded(buf) then
    return {}
  end
  local first = params.range.start.line + 1
  local last = params.range['end'].line + 1
  local out = {}
  local function add(title, kind, verb)
    local command = { title = title, command = 'gemma.' .. verb, arguments = { buf, first, last } }
    out[#out + 1] = { title = title, kind = kind, command = command }
  end
  -- Those of the context are what this client reports itself, which is nothing.
  if #require('gemma.context.diagnostics').here(buf, first - 1, last - 1) > 0 then
    add('Gemma: fix this', 'quickfix', 'fix')
  end
  add('Gemma: explain this', 'source.explain', 'explain')
  local only = (params.context or {}).only
  if type(only) == 'table' then
    out = vim.tbl_filter(function(a)
      return vim.iter(only):any(function(kind)
        return a.kind == kind or vim.startswith(a.kind, kind .. '.')
      end)
    end, out)
  end
  return out
end

---@param command { arguments: integer[] }
---@param verb string an Ex command without its range
local function run(command, verb)
  local buf, first, last = unpack(command.arguments)
  if api.nvim_get_current_buf() ~= buf then
    return
  end
  -- A range of one line without a selection means "here" for an explanation.
  if verb == 'GemmaExplain' and first == last then
    vim.cmd(verb)
  else
    vim.cmd(('%d,%d%s'):format(first, last, verb))
  end
end

M.commands = {
  ['gemma.explain'] = function(command)
    run(command, 'GemmaExplain')
  end,
  ['gemma.fix'] = function(command)
    run(command, 'Gemma fix')
  end,
}

-- ---- the server ----------------------------------------------------------------------------

---@param dispatchers table of vim.lsp
---@return table vim.lsp.rpc.PublicClient
function M.server(dispatchers)
  local closing, next_id = false, 0
  --- The client forgets a server only when it hears of its end.
  ---@param signal integer
  local function close(signal)
    if not closing then
      closing = true
      dispatchers.on_exit(0, signal)
    end
  end
  local answers = {
    initialize = function()
      return {
        capabilities = {
          positionEncoding = 'utf-16',
          inlineCompletionProvider = true,
          codeActionProvider = { codeActionKinds = { 'quickfix', 'source.explain' } },
        },
        serverInfo = { name = NAME },
      }
    end,
    ['textDocument/codeAction'] = code_actions,
  }
  return {
    request = function(method, params, callback, notify_reply)
      next_id = next_id + 1
      local id = next_id
      -- A client does not expect an answer before it knows the number of its question.
      local function reply(result)
        vim.schedule(function()
          if notify_reply then
            notify_reply(id)
          end
          callback(nil, result)
        end)
      end
      if method == 'textDocument/inlineCompletion' then
        inline_completion(params, id, reply)
      else
        reply(answers[method] and answers[method](params) or nil)
      end
      return true, id
    end,
    notify = function(method, params)
      if method == '$/cancelRequest' and pending[params.id] then
        pending[params.id]()
      elseif method == 'exit' then
        close(0)
      end
      return true
    end,
    is_closing = function()
      return closing
    end,
    terminate = function()
      close(SIGTERM)
    end,
  }
end

---@param client vim.lsp.Client
---@return boolean
local function stopped(client)
  if vim.fn.has('nvim-0.11') == 1 then
    return client:is_stopped()
  end
  return client.is_stopped()
end

--- Attaches to a buffer, when ghost text may be there.
---@param buf integer
---@return integer? client
function M.attach(buf)
  if not api.nvim_buf_is_loaded(buf) or require('gemma.allow').buffer_reason(buf) then
    return nil
  end
  return vim.lsp.start({ name = NAME, cmd = M.server, commands = M.commands }, {
    bufnr = buf,
    reuse_client = function(client)
      return client.name == NAME and not stopped(client)
    end,
  })
end

local ready = false

--- Attaches to every buffer from now on, and to those that are there. For `lsp = true`.
function M.setup()
  if ready then
    return
  end
  ready = true
  api.nvim_create_autocmd('FileType', {
    group = api.nvim_create_augroup('gemma.lsp', {}),
    callback = function(ev)
      if require('gemma.config').get().lsp then
        M.attach(ev.buf)
      end
    end,
  })
  for _, buf in ipairs(api.nvim_list_bufs()) do
    if api.nvim_buf_is_loaded(buf) and vim.bo[buf].filetype ~= '' then
      M.attach(buf)
    end
  end
end

return M
