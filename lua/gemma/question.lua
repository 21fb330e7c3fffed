--- question.lua: words that the user is asked for, by vim.ui.input.
---
--- Neovim's own input takes one line. Of several lines that are pasted into it only the first arrives, and
--- nobody is told: a pasted stack trace would lose all but its head. Here all lines become one question.

local M = {}

--- Instead of vim.paste while an input() is open. The pieces of a large paste come one after the other.
---@param paste fun(lines: string[], phase: integer): boolean?
---@return fun(lines: string[], phase: integer): boolean?
local function several_lines(paste)
  return function(lines, phase)
    if vim.fn.getcmdtype() ~= '@' then
      return paste(lines, phase)
    end
    local line, pos = vim.fn.getcmdline(), vim.fn.getcmdpos()
    local text = table.concat(lines, '\n')
    vim.fn.setcmdline(line:sub(1, pos - 1) .. text .. line:sub(pos), pos + #text)
    return true
  end
end

---@param prompt string
---@param on_answer fun(words: string?) nil: nothing was said
local function input(prompt, on_answer)
  local paste, open = vim.paste, true
  vim.paste = several_lines(paste)
  local function close()
    if open then
      vim.paste, open = paste, false
    end
  end
  local ok, err = pcall(vim.ui.input, { prompt = prompt }, function(words)
    close() -- what is done with the words may ask for more
    words = words and vim.trim(words:gsub('\r\n?', '\n')) or ''
    on_answer(words ~= '' and words or nil)
  end)
  close()
  if not ok then
    error(err, 0)
  end
end

--- Asks, and calls on_words with what was said; not when that is nothing. Another vim.ui.input than
--- Neovim's may return before it has an answer, and pastes in its own way.
---@param prompt string
---@param on_words fun(words: string)
function M.ask(prompt, on_words)
  input(prompt, function(words)
    if words then
      on_words(words)
    end
  end)
end

--- Asks for words about lines of a buffer, which may move until there is an answer.
---@param prompt string
---@param o { buf: integer, first: integer, last: integer } 1-based
---@param on_words fun(words: string, first: integer, last: integer) not called when the buffer is gone
function M.about(prompt, o, on_words)
  local take = require('gemma.subject').hold(o.buf, o.first, o.last)
  input(prompt, function(words)
    local first, last = take()
    if words and first and last then
      on_words(words, first, last)
    end
  end)
end

return M
