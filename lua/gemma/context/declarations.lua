--- context/declarations.lua: how the names at the cursor are declared, as the language server knows.
---
--- Names are picked from the text (pure), asked for while nobody types, and kept; a prompt takes
--- what is there and never waits. A file that is excluded is not opened, and of a large one
--- nothing is read.

local M = {}

local api = vim.api
local text = require('gemma.context.text')

local MAX_NAMES = 8 -- asked at a time
local MAX_KEPT = 16 -- of a buffer
local LINES, BYTES, WIDTH = 12, 500, 200 -- of a declaration
local MAX_FILE = 512 * 1024
local OLD_MS = 5 * 60 * 1000 -- asked again after this time
local METHOD = 'textDocument/definition'

---@class gemma.Declaration
---@field name string
---@field path string
---@field text string

---@class gemma.declarations.Buffer
---@field list gemma.Declaration[] in the order in which they came: the order of the prompt
---@field asked table<string, number> ms, by name
---@field cancel table<string, fun()> by name: questions under way

local buffers = {} ---@type table<integer, gemma.declarations.Buffer>

--- Words that no server declares, of many languages at once.
local COMMON = {}
for w in
  ([[and as async await bool break case catch char class const continue def default delete do
double elif else elseif end enum except export extends extern false final finally float fn for from
func function goto if impl import in int interface is lambda let local long match mod module mut new
nil none not null of or package pass private protected pub public raise ref repeat return self short
signed sizeof static string struct super switch then this throw throws trait true try type typedef
typeof union unless unsafe unsigned until use using var void volatile when where while with yield
assert print printf len range map list dict set str vec array object require module exports]]):gmatch(
    '%a+'
  )
do
  COMMON[w] = true
end

---@class gemma.declarations.Name
---@field name string
---@field row integer 0-based, within the lines given
---@field col integer bytes

--- Names that are worth a question: called, or the last part of a path; the nearest to the end first.
---@param lines string[] up to the cursor
---@param max integer
---@return gemma.declarations.Name[]
function M.names(lines, max)
  local out, seen = {}, {}
  for i = #lines, 1, -1 do
    local line = lines[i]
    local here = {}
    for at, word, after in line:gmatch('()([%a_][%w_]*)()') do
      local before = line:sub(at - 1, at - 1)
      local called = line:find('^%s*[%(%{!<]', after) or line:find('^[%.:]', after)
      local typed = word:find('^%u') or before == '.' or before == ':'
      local plain = not before:find('[%w_"\'`#]')
      if #word >= 3 and plain and (called or typed) and not COMMON[word:lower()] then
        here[#here + 1] = { name = word, row = i - 1, col = at - 1 }
      end
    end
    for k = #here, 1, -1 do
      local n = here[k]
      if not seen[n.name] and #out < max then
        seen[n.name] = true
        out[#out + 1] = n
      end
    end
  end
  return out
end

--- The lines of a declaration that begins at a line: as far as its range says, or as far as the
--- indentation shows.
---@param lines string[] from its first line on
---@param n integer? lines that the server named; more than one counts
---@return string
function M.snippet(lines, n)
  local out, bytes = {}, 0
  local least = (lines[1] or ''):match('^%s*')
  for i = 1, math.min(#lines, LINES) do
    local l = text.to_char(lines[i]:sub(1, WIDTH))
    if n and n > 1 then
      if i > n then
        break
      end
    elseif i > 1 then
      local indent = l:match('^%s*')
      local blank = not l:find('%S')
      if blank or #indent < #least then
        break
      elseif #indent == #least and not l:find('^%s*[%]%)}]') and not l:find('^%s*end') then
        break
      end
    end
    bytes = bytes + #l + 1
    if bytes > BYTES then
      break
    end
    out[#out + 1] = l
  end
  return table.concat(out, '\n')
end

--- The first target of an answer, whichever of the four shapes it has.
---@param result any
---@return string? uri
---@return integer? first 0-based
---@return integer? n lines of the range
function M.target(result)
  local loc = type(result) == 'table' and (result[1] or result) or nil
  local uri = loc and (loc.targetUri or loc.uri)
  local range = loc and (loc.targetRange or loc.range)
  if type(uri) ~= 'string' or type(range) ~= 'table' then
    return nil
  end
  return uri, range.start.line, range['end'].line - range.start.line + 1
end

---@param content string
---@param first integer 0-based
---@return string[]
local function lines_of(content, first)
  local out, row = {}, 0
  for l in vim.gsplit(content, '\n', { plain = true }) do
    if row >= first then
      out[#out + 1] = (l:gsub('\r$', ''))
    end
    row = row + 1
    if #out == LINES then
      break
    end
  end
  return out
end

--- Lines of a file from a line on, from its buffer or from the disk, without waiting.
---@param path string
---@param first integer 0-based
---@param done fun(lines: string[])
local function read(path, first, done)
  local buf = require('gemma.util').buf_of(path)
  if buf and api.nvim_buf_is_loaded(buf) then
    return done(text.lines(buf, first, first + LINES, WIDTH))
  end
  vim.uv.fs_open(path, 'r', 0, function(_, fd)
    if not fd then
      return
    end
    local function close()
      vim.uv.fs_close(fd, function() end)
    end
    vim.uv.fs_fstat(fd, function(_, stat)
      if not stat or stat.type ~= 'file' or stat.size > MAX_FILE then
        return close()
      end
      vim.uv.fs_read(fd, stat.size, 0, function(_, data)
        close()
        if data then
          vim.schedule(function()
            done(lines_of(data, first))
          end)
        end
      end)
    end)
  end)
end

---@param b gemma.declarations.Buffer
---@param d gemma.Declaration
local function keep(b, d)
  for _, o in ipairs(b.list) do
    if o.path == d.path and (o.name == d.name or o.text == d.text) then
      o.text = d.text
      return
    end
  end
  if #b.list >= MAX_KEPT then
    -- In one step, so that the rest stays in place for a while.
    b.list = vim.list_slice(b.list, MAX_KEPT / 2 + 1)
  end
  b.list[#b.list + 1] = d
end

---@param buf integer
---@param b gemma.declarations.Buffer
---@param name string
---@param results table<integer, { result: any }>
---@param may fun(path: string): boolean
local function on_answer(buf, b, name, results, may)
  for _, r in pairs(results) do
    local uri, first, n = M.target(r.result)
    if uri and uri:match('^file:') and first then
      local path = vim.uri_to_fname(uri)
      if not may(path) then
        return
      end
      return read(path, first, function(lines)
        local snippet = M.snippet(lines, n)
        if buffers[buf] == b and snippet:find('%S') then
          keep(b, { name = name, path = path, text = snippet })
        end
      end)
    end
  end
end

--- The position of a byte column as a server counts it.
---@param line string
---@param col integer
---@param encoding string?
---@return integer
local function character(line, col, encoding)
  local head = require('gemma.util').no_nul(line:sub(1, col))
  if encoding == 'utf-8' then
    return col
  elseif encoding == 'utf-32' then
    return vim.fn.strchars(head)
  end
  return vim.fn.strutf16len(head, true)
end

--- Where a name stands, for every server in its own units. Neovim 0.10 asks all of them in those of one.
---@param uri string
---@param row integer 0-based
---@param line string
---@param col integer bytes
---@param client vim.lsp.Client the one whose units count then
---@return table|fun(client: vim.lsp.Client): table
local function params_of(uri, row, line, col, client)
  local function of(c)
    local at = { line = row, character = character(line, col, c.offset_encoding) }
    return { textDocument = { uri = uri }, position = at }
  end
  return vim.fn.has('nvim-0.11') == 1 and of or of(client)
end

--- Asks for the names around a line. Returns at once; answers that come when the buffer is gone are
--- dropped.
---@param buf integer
---@param row integer 0-based
---@param may fun(path: string): boolean may a file be read?
function M.fetch(buf, row, may)
  local client = vim.lsp.get_clients({ bufnr = buf, method = METHOD })[1]
  if not client then
    return
  end
  local b = buffers[buf] or { list = {}, asked = {}, cancel = {} }
  buffers[buf] = b
  for _, cancel in pairs(b.cancel) do
    pcall(cancel)
  end
  b.cancel = {}
  local first = math.max(0, row - 30)
  local lines = text.lines(buf, first, row + 1, 400)
  local uri, now = vim.uri_from_bufnr(buf), vim.uv.now()
  for _, n in ipairs(M.names(lines, MAX_NAMES)) do
    local when = b.asked[n.name]
    if not when or now - when > OLD_MS then
      local params = params_of(uri, first + n.row, lines[n.row + 1], n.col, client)
      b.cancel[n.name] = vim.lsp.buf_request_all(buf, METHOD, params, function(results)
        b.cancel[n.name] = nil
        b.asked[n.name] = now
        on_answer(buf, b, n.name, results, may)
      end)
    end
  end
end

--- The declarations of a buffer for its prompt: none that stands in the text itself.
---@param list gemma.Declaration[]
---@param near string text around the cursor
---@param budget integer bytes
---@param name fun(path: string): string
---@return string
function M.format(list, near, budget, name)
  local out, sum, last = {}, 0, nil
  for _, d in ipairs(list) do
    local first = d.text:match('^[^\n]*')
    if not near:find(first, 1, true) then
      local head = d.path ~= last and ('File: %s\n'):format(name(d.path)) or ''
      local piece = head .. d.text
      sum = sum + #piece + 1
      if sum > budget then
        break
      end
      last = d.path
      out[#out + 1] = piece
    end
  end
  return table.concat(out, '\n')
end

---@param buf integer
---@return gemma.Declaration[]
function M.of(buf)
  return buffers[buf] and buffers[buf].list or {}
end

---@param buf integer
function M.forget(buf)
  buffers[buf] = nil
end

return M
