--- diff.lua: a diff made short enough for a prompt. Pure.

local transcript = require('gemma.chat.transcript')
local util = require('gemma.util')

local M = {}

local MIN_SHARE = 120 -- bytes of a file's diff that are of any use

---@class (exact) gemma.commit.File
---@field head string[] lines up to the first hunk
---@field body string[]

--- The files of a diff.
---@param diff string
---@return gemma.commit.File[]
function M.files(diff)
  local out, file, in_body = {}, nil, false
  for line in vim.gsplit(diff:gsub('\n$', ''), '\n', { plain = true }) do
    if line:find('^diff %-%-git ') then
      file, in_body = { head = {}, body = {} }, false
      out[#out + 1] = file
    end
    in_body = in_body or line:find('^@@') ~= nil
    if file then
      local to = in_body and file.body or file.head
      to[#to + 1] = line
    end
  end
  return out
end

---@param lines string[]
---@return integer bytes
local function size(lines)
  local n = 0
  for _, l in ipairs(lines) do
    n = n + #l + 1
  end
  return n
end

--- Lines that fit, and a note about the others.
---@param lines string[]
---@param limit integer bytes
---@return string[]
local function cut(lines, limit)
  local out, n = {}, 0
  for i, line in ipairs(lines) do
    n = n + #line + 1
    if n > limit then
      out[#out + 1] = ('[%d more lines]'):format(#lines - i + 1)
      break
    end
    out[#out + 1] = line
  end
  return out
end

--- A diff of at most about so many bytes. Every file keeps its head; what is left is shared, and
--- what small files do not need goes to the large ones.
---@param diff string
---@param limit integer bytes
---@return string
function M.shorten(diff, limit)
  if #diff <= limit then
    return diff
  end
  local files = M.files(diff)
  local left = limit
  for _, f in ipairs(files) do
    left = left - size(f.head)
  end
  local order = {}
  for i in ipairs(files) do
    order[i] = i
  end
  table.sort(order, function(a, b)
    local x, y = size(files[a].body), size(files[b].body)
    return x < y or (x == y and a < b)
  end)
  local share = {}
  for k, i in ipairs(order) do
    local fair = math.max(0, math.floor(left / (#order - k + 1)))
    share[i] = math.min(size(files[i].body), fair)
    left = left - share[i]
  end
  local out, n = {}, 0
  for i, f in ipairs(files) do
    local piece = vim.list_extend({}, f.head)
    if share[i] >= math.min(MIN_SHARE, size(f.body)) then
      vim.list_extend(piece, cut(f.body, share[i]))
    else
      piece = { f.head[1], ('[%s]'):format(util.count(#f.body, 'line')) }
    end
    n = n + size(piece)
    -- Thousands of files: not even their names fit.
    if n > limit + MIN_SHARE and i > 1 then
      out[#out + 1] = ('[%d more files]'):format(#files - i + 1)
      break
    end
    vim.list_extend(out, piece)
  end
  return table.concat(out, '\n') .. '\n'
end

--- A diff of which only the beginning was read: the files that did not come are named.
---@param diff string
---@param names string[] of all files, in git's order
---@return string
function M.complete(diff, names)
  diff = diff:match('^.*\n') or ''
  local last = ('\n' .. diff):match('^.*\ndiff %-%-git ([^\n]*)\n') or ''
  local seen = 0
  for i, name in ipairs(names) do
    -- The longest one, since another may end in the same way.
    if
      (vim.endswith(last, '/' .. name) or vim.endswith(last, ' ' .. name))
      and #name > #(names[seen] or '')
    then
      seen = i
    end
  end
  local out = { diff }
  for i = seen + 1, #names do
    local name = transcript.one_line(names[i])
    out[#out + 1] = ('diff --git a/%s b/%s\n[not read]\n'):format(name, name)
  end
  return table.concat(out)
end

return M
