--- busy.lua: what the model is doing for a task, in words and as a mark behind a line.

local M = {}

--- What it does first.
---@return string
function M.begins()
  return require('gemma.engine').is_loaded() and 'reading' or 'loading the model'
end

--- How far it has read the prompt.
---@param done integer tokens
---@param total integer tokens, more than 0
---@return string
function M.reading(done, total)
  return ('reading %d %%'):format(done * 100 / total)
end

--- Shows behind a line what is going on, and that <C-e> stops it.
---@param buf integer
---@param ns integer
---@param row integer 0-based
---@param text string
---@param id integer? of the mark, to show another text
---@return integer id
function M.mark(buf, ns, row, text, id)
  return vim.api.nvim_buf_set_extmark(buf, ns, row, 0, {
    id = id,
    virt_text = { { (' %s · <C-e> stops '):format(text), 'GemmaBusy' } },
    virt_text_pos = 'eol',
    hl_mode = 'combine',
  })
end

return M
