--- menu.lua: suggestions as entries of a completion menu; blink.lua and cmp.lua give them on.
---
--- A menu compares its entries with the word at the cursor, so an entry replaces that word by
--- itself and what the model writes behind it. Positions are bytes.

local M = {}

local api = vim.api

local LABEL = 60 -- cells

---@param s string
---@return string
local function label(s)
  s = vim.trim(s:gsub('%s+', ' '))
  return vim.fn.strdisplaywidth(s) <= LABEL and s or vim.fn.strcharpart(s, 0, LABEL - 1) .. '…'
end

--- The entries for an answer: all of it, and its first line alone when there are more.
---@param o { line: string, row: integer, col: integer, text: string, swallow: integer, language: string }
---@return table[] lsp.CompletionItem
function M.items(o)
  local from = vim.fn.match(o.line:sub(1, o.col), [[\k*$]])
  local word = o.line:sub(from + 1, o.col)
  local first = o.text:match('^\n*[^\n]*')
  local texts = { o.text }
  if first ~= o.text and first:find('%S') then
    texts[2] = first
  end
  local out = {}
  for i, text in ipairs(texts) do
    local whole = word .. text
    local swallow = text == o.text and o.swallow or 0
    out[i] = {
      label = label(i == 1 and #texts > 1 and whole:match('^\n*[^\n]*') .. ' …' or whole),
      filterText = word ~= '' and word or whole:match('^%s*(%S*)'),
      sortText = ('%04d'):format(i),
      kind = 15, -- Snippet: the one of LSP's kinds that stands for several words
      insertTextFormat = 1,
      detail = 'Gemma',
      documentation = {
        kind = 'markdown',
        value = ('```%s\n%s\n```'):format(o.language, whole),
      },
      textEdit = {
        newText = whole,
        range = {
          start = { line = o.row, character = from },
          ['end'] = { line = o.row, character = o.col + swallow },
        },
      },
    }
  end
  return out
end

--- May a menu ask in this buffer now? The model is not loaded for it.
---@param buf integer
---@return boolean
function M.available(buf)
  local allow = require('gemma.allow')
  return allow.on
    and require('gemma.engine').is_loaded()
    and not allow.buffer_reason(buf)
    and not allow.moment_reason()
end

--- Asks for the entries at a place. done() hears exactly once unless it is cancelled.
---@param buf integer
---@param row integer 0-based
---@param col integer bytes
---@param done fun(items: table[])
---@return fun() cancel
function M.request(buf, row, col, done)
  if not M.available(buf) then
    done({})
    return function() end
  end
  local line = api.nvim_buf_get_lines(buf, row, row + 1, false)[1] or ''
  local language = vim.bo[buf].filetype
  local cancelled = false
  local handle = require('gemma').complete({
    buf = buf,
    row = row,
    col = col,
    on_done = function(text, _, swallow)
      if cancelled then
        return
      elseif not text or not text:find('%S') then
        return done({})
      end
      done(M.items({
        line = line,
        row = row,
        col = col,
        text = text,
        swallow = swallow or 0,
        language = language,
      }))
    end,
  })
  return function()
    cancelled = true
    handle.cancel()
  end
end

return M
