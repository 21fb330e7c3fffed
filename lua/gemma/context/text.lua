--- context/text.lua: reading pieces of buffers whatever their size, and cutting strings.

local M = {}

local api = vim.api

--- Bytes of a line, without its end. Costs the same for every length.
---@param buf integer
---@param row integer 0-based
---@return integer
function M.line_len(buf, row)
  local len = api.nvim_buf_get_offset(buf, row + 1) - api.nvim_buf_get_offset(buf, row) - 1
  if row == api.nvim_buf_line_count(buf) - 1 then
    local bo = vim.bo[buf]
    if not bo.endofline and (bo.binary or not bo.fixendofline) then
      -- The offset leaves out the line end that the file will not have, except in a buffer that
      -- never had a line. That one looks like one of a single byte, so short ones are read.
      return len > 0 and len + 1 or #api.nvim_buf_get_lines(buf, row, row + 1, false)[1]
    end
  end
  return len
end

--- Lines of a buffer, each cut to `width` bytes, at most `bytes` of them together.
---@param buf integer
---@param first integer 0-based
---@param stop integer exclusive; may be behind the end
---@param width integer
---@param bytes integer?
---@return string[]
function M.lines(buf, first, stop, width, bytes)
  local out, sum = {}, 0
  for row = math.max(0, first), math.min(stop, api.nvim_buf_line_count(buf)) - 1 do
    local len = math.min(width, M.line_len(buf, row))
    sum = sum + len + 1
    if bytes and sum > bytes then
      break
    end
    out[#out + 1] = M.to_char(api.nvim_buf_get_text(buf, row, 0, row, len, {})[1])
  end
  return out
end

---@param s string
---@return string without the rest of a character at its start
function M.from_char(s)
  return (s:gsub('^[\128-\191]+', '', 1))
end

---@param s string
---@return string without the start of a character at its end
function M.to_char(s)
  local lead = s:match('[\192-\247][\128-\191]*$')
  if not lead then
    return s
  end
  local b = lead:byte()
  local want = b >= 240 and 4 or b >= 224 and 3 or 2
  return #lead < want and s:sub(1, #s - #lead) or s
end

--- The lines without blank ones at both ends.
---@param lines string[]
---@return string[]
function M.trim(lines)
  local first, last = 1, #lines
  while first <= last and not lines[first]:find('%S') do
    first = first + 1
  end
  while last >= first and not lines[last]:find('%S') do
    last = last - 1
  end
  return vim.list_slice(lines, first, last)
end

--- Whole lines from the start of a text, at most `limit` bytes.
---@param s string
---@param limit integer
---@return string
function M.head(s, limit)
  if #s <= limit then
    return s
  end
  local cut = s:sub(1, limit)
  return cut:match('^(.*)\n') or M.to_char(cut)
end

---@param path string
---@return string as a person would say it
function M.name(path)
  return path == '' and '(no name)' or vim.fn.fnamemodify(path, ':~:.')
end

return M
