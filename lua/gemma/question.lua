--- question.lua: words that the user is asked for, by vim.ui.input.
---
--- Neovim's own input takes one line, and of several that are pasted into it the first, without a word: of a
--- stack trace its head would be asked about. Here all of them go in, as one question.

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

--- Asks, and calls on_words with what was said; not when that is nothing. Another vim.ui.input than
--- Neovim's may return before it has an answer, and pastes in its own way.
---@param prompt string
---@param on_words fun(words: string)
function M.ask(prompt, on_words)
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
    if words ~= '' then
      on_words(words)
    end
  end)
  close()
  if not ok then
    error(err, 0)
  end
end

return M
